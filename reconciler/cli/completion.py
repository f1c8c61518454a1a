"""completion: the shell's Tab key for the commands and options.

eval "$(reconciler completion bash)"     the script; at each Tab it runs `reconciler` with _RECONCILER_COMPLETE set
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class, shell_complete

if TYPE_CHECKING:
    from click import Command

VARIABLE = "_RECONCILER_COMPLETE"
"""In the environment: what a shell asks for."""
_PROGRAM = "reconciler"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Prints what lets a shell complete the commands and options of reconciler.

    \b
    bash, zsh   eval "$(reconciler completion bash)"                 in ~/.bashrc, with zsh in ~/.zshrc
    fish        reconciler completion fish | source                  in ~/.config/fish/config.fish
    """
    root = click.get_current_context().find_root().command
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(root, {}, _PROGRAM, VARIABLE).source())


def complete(root: Command, asked: str) -> int:
    """Answers a shell; the code to exit with."""
    return shell_complete(root, {}, _PROGRAM, VARIABLE, asked)
