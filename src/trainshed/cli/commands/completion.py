"""``trainshed completion``: completion of commands, options and the names of live objects."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print completion for a shell.

    \b
    bash:  eval "$(trainshed completion bash)"        in ~/.bashrc
    zsh:   eval "$(trainshed completion zsh)"         in ~/.zshrc
    fish:  trainshed completion fish | source         in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    root = click.get_current_context().find_root()
    kind = get_completion_class(shell)
    assert kind is not None
    # The script is written without asking the shell for its version, which `source` would do on this machine only.
    made = kind(root.command, {}, "trainshed", "_TRAINSHED_COMPLETE")
    click.echo(made.source_template % made.source_vars())
