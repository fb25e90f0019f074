"""`perdure completion`: the script that makes a shell complete `perdure` with the tab key."""

import click
from click.shell_completion import get_completion_class

from perdure.gateway.cli import main

_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Write the completion script of SHELL.

    \b
    bash: perdure completion bash > ~/.local/share/bash-completion/completions/perdure
    zsh:  perdure completion zsh > DIR/_perdure, where DIR is in $fpath before compinit
    fish: perdure completion fish > ~/.config/fish/completions/perdure.fish
    """
    found = get_completion_class(shell)
    assert found is not None, f"click completes {shell}"
    click.echo(found(main, {}, "perdure", "_PERDURE_COMPLETE").source())
