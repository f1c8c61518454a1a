"""up and down: the daemon's beginning and end.

reconciler up PATH   ->   this process becomes the launcher (exec), which starts the controller
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

import reconciler
from reconciler.cli.connection import connect, seconds, state_dir, state_option
from reconciler.cli.variant import looked_at, overlaid, variant_options
from reconciler.client import lock_holder
from reconciler.errors import Invalid, Refused
from reconciler.loading.variant import Wanted

if TYPE_CHECKING:
    from reconciler.resources.configuration import Configuration

_LOOK_S = 0.02
_SAY_SO_S = 3.0
"""A wait that is longer is explained."""


@click.command("up")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--prune", is_flag=True, help="Delete what a source no longer declares.")
@variant_options
@click.option("--once", is_flag=True, help="Converge, say so, end with 0 or 1; the workers stay.")
@click.option("--detach", is_flag=True, help="In the background; its output goes to DIR/daemon.log.")
@click.option(
    "--sample-every", metavar="DURATION", help="How often CPU and memory are looked at; 0s: only by `top`.  [10s]"
)
@click.option("--config", metavar="FILE", help="The daemon's own settings: one Configuration.")
@state_option
def up_command(
    paths: Sequence[str],
    config: str | None,
    prune: bool,
    once: bool,
    detach: bool,
    sample_every: str | None,
    wanted: Wanted,
    state: str | None,
) -> int:
    """Runs what the manifests in PATH describe.

    Without PATH: manifests/, if it is there. Stays in the foreground.

    It has converged, and says "adopted N, started M", when every worker is ready, or in trouble, or has not become ready
    within its pool's strategy.progressDeadline (10m); --once and --detach end then.

    \b
    SIGTERM, SIGINT   ends everything gracefully; again: at once
    SIGHUP            reads the manifests now, and the Configuration; its sources are those of the start
    SIGQUIT           ends the daemon and leaves the workers running
    """
    if once and detach:
        raise click.UsageError("--once and --detach exclude each other")
    settings = settings_of(config) if config is not None else None
    if not paths and os.path.isdir("manifests") and (settings is None or not settings.spec.sources):
        paths = ("manifests",)
    for path in paths:
        if not os.path.exists(path):
            raise click.UsageError(f"there is no {path!r}")
    looked_at(wanted)
    overlaid(wanted, paths)
    directory = state_dir(state)
    sample_every_s = seconds(sample_every, "--sample-every")
    sources = [os.path.abspath(path) for path in paths]
    rendering = wanted.words()
    if config is not None and settings is not None:
        rendering = [*rendering, "--config", os.path.abspath(config)]
        for source in settings.spec.sources:
            sources.append(os.path.abspath(source.path))
            rendering += ["--pruned", sources[-1]] if source.prune else []
    words = launch_words(directory, list(dict.fromkeys(sources)), prune, once, sample_every_s, rendering)
    environment = _environment()
    if detach:
        return _detached(directory, words, environment)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(words[0], words, environment)


def settings_of(path: str) -> Configuration:
    """The daemon's own settings. Raises UsageError."""
    from reconciler.loading.configuration import configuration

    try:
        return configuration(path)
    except Invalid as error:
        raise click.UsageError(error.message + (f"\n  help: {error.help}" if error.help else "")) from None


@click.command("down")
@click.option("--keep-workers", is_flag=True, help="End the daemon only; the next `up` takes the workers over.")
@click.option("--timeout", metavar="DURATION", help="How long to wait for the end; then 124.")
@state_option
def down_command(keep_workers: bool, timeout: str | None, state: str | None) -> int:
    """Ends the daemon and all that it runs.

    Every process is stopped gracefully, within its grace period.
    """
    timeout_s = seconds(timeout, "--timeout")
    with connect(state) as client:
        directory = client.state_dir
        client.shutdown(keep_workers)
    started_s = time.monotonic()
    told = False
    while lock_holder(directory) is not None:
        waited_s = time.monotonic() - started_s
        if timeout_s is not None and waited_s >= timeout_s:
            click.echo(f"error: the daemon has not ended within {timeout}", err=True)
            return 124
        if not told and waited_s > 2 and sys.stderr.isatty():
            click.echo("waiting for everything to end (reconciler get workers shows what is left)", err=True)
            told = True
        time.sleep(_LOOK_S)
    click.echo("the daemon has ended" + (", its workers run on" if keep_workers else ""))
    return 0


def launch_words(
    directory: str,
    sources: Sequence[str],
    prune: bool,
    once: bool,
    sample_every_s: float | None = None,
    rendering: Sequence[str] = (),
) -> list[str]:
    """The launcher's command line, the controller's within it."""
    launcher = Path(reconciler.__file__).parent / "launcher" / "__main__.py"
    options = ["--prune"] * prune + ["--once"] * once + list(rendering)
    options += [] if sample_every_s is None else ["--sample-every-s", str(sample_every_s)]
    controller = [sys.executable, "-m", "reconciler.daemon", "--state", directory, *options, "--", *sources]
    return [sys.executable, "-I", "-S", str(launcher), "--state", directory, "--", *controller]


def _environment() -> dict[str, str]:
    """Our own; where the package was found through the working directory, the controller is told of it."""
    environment = dict(os.environ)
    home = str(Path(reconciler.__file__).parent.parent)
    if os.path.abspath(sys.path[0]) == home and home not in map(os.path.abspath, sys.path[1:]):
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [home, environment.get("PYTHONPATH")]))
    return environment


def _detached(directory: str, words: Sequence[str], environment: dict[str, str]) -> int:
    path = os.path.join(directory, "daemon.log")
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        log = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}", "choose another --state DIR") from None
    start = os.fstat(log).st_size
    began_s, told = time.monotonic(), False
    process = subprocess.Popen(
        words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
    )
    while True:
        ended = process.poll()
        lines = os.pread(log, 1 << 20, start).decode("utf-8", "replace").splitlines()
        ready = next((line for line in lines if line.startswith("ready: ")), None)
        converged = next((line for line in lines if line.startswith("adopted ")), None)
        if ready is not None and converged is not None:
            with connect(directory) as client:
                report = client.status()
            if report["launcher"]["pid"] == process.pid:  # else another one, begun at the same moment, has said that
                notes = [line for line in lines if line.startswith("note: ")]
                click.echo("\n".join([ready, *notes, converged]), err=True)
                failed = [source for source in report["sources"] if source["error"]]
                for source in failed:
                    click.echo(f"error: {source['path']}: {source['error']}", err=True)
                return 1 if failed else 0
        if ready is not None and not told and time.monotonic() - began_s > _SAY_SO_S:
            click.echo("it serves; waiting until all workers are ready (`reconciler get workers` shows them)", err=True)
            told = True
        if ended is not None:
            click.echo("\n".join(lines[-20:]) or f"the daemon ended with {ended}; see {path}", err=True)
            return ended if ended in (2, 5) else 1
        time.sleep(_LOOK_S)
