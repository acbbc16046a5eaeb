"""``python -m trainshed``: the command line."""

from trainshed.cli.main import main

if __name__ == "__main__":
    main()
