cd /tmp/wt4; PYTHONPATH=/tmp/wt4/src /work/main/.venv/bin/python -m pytest -q -p no:cacheprovider "$@"
