"""The command line: one file a family of verbs, each imported only when one of its verbs is used.

Belongs here: words, options, tables, exit codes. Never: decisions about processes; the daemon takes those.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """The command `reconciler`: every foreseen error is a line and an exit code, never a traceback."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        _open_standard_streams()
    import click

    import reconciler.unplugged  # noqa: F401  before the first model
    from reconciler.cli.root import root
    from reconciler.errors import ReconcilerError

    try:
        if asked := os.environ.get("_RECONCILER_COMPLETE"):
            from reconciler.cli.completion import complete

            sys.exit(complete(root, asked))
        with root.make_context("reconciler", sys.argv[1:]) as context:
            code = root.invoke(context)
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = 2
    except ReconcilerError as error:
        _tell(error)
        code = error.exit_code
    except BrokenPipeError:
        code = 141  # the reader has had enough: as every program that SIGPIPE ends
    except KeyboardInterrupt:
        code = 130
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 141
    sys.exit(code if isinstance(code, int) else 0)


def _open_standard_streams() -> None:
    """Puts /dev/null where we were started with 0, 1 or 2 closed: no file of ours may get one of those numbers."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def _tell(error: object) -> None:
    from reconciler.cli.show import escape
    from reconciler.errors import ReconcilerError

    assert isinstance(error, ReconcilerError)
    sys.stderr.write(f"error: {escape(error.message)}\n")
    if error.help:
        sys.stderr.write(f"  help: {escape(error.help)}\n")
