"""install: a unit file, so that systemd starts the daemon at boot and after a crash.

The unit says KillMode=process: what the daemon runs outlives a crash of its launcher, and the next one takes it over.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from reconciler.cli.connection import state_dir, state_option
from reconciler.cli.daemon import settings_of
from reconciler.cli.variant import looked_at, overlaid, variant_options
from reconciler.errors import Refused
from reconciler.loading.variant import Wanted

_UNIT = """\
# Written by `reconciler install --systemd`.
[Unit]
Description=reconciler: keeps processes as manifests describe
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
# systemctl stop: the daemon itself stops everything, each worker within its grace period
TimeoutStopSec=10min
# a crash of the daemon must not take the workers along: the next start adopts them
KillMode=process
Restart=on-failure
RestartSec=1
RestartPreventExitStatus=2 5
# control groups below the unit's are the daemon's own; one worker without memory is not the end of the unit
Delegate=yes
OOMPolicy=continue
TasksMax=infinity
LimitNOFILE=65536
UMask=0077

[Install]
WantedBy={target}
"""


@click.command("install")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--systemd", is_flag=True, required=True, help="A unit file for systemd.")
@click.option("--output", metavar="FILE", help="Where to; - prints it. Else where systemd looks for units.")
@click.option("--name", default="reconciler", show_default=True, help="Name of the unit.")
@click.option("--prune", is_flag=True, help="As for up: delete what a source no longer declares.")
@click.option("--enable", is_flag=True, help="Start it now and at every boot.")
@variant_options
@click.option("--config", metavar="FILE", help="As for up: the daemon's own settings, one Configuration.")
@state_option
def install_command(
    paths: Sequence[str],
    systemd: bool,
    output: str | None,
    name: str,
    prune: bool,
    enable: bool,
    config: str | None,
    wanted: Wanted,
    state: str | None,
) -> int:
    """Writes a unit file that runs `reconciler up PATH` under systemd.

    Without PATH: manifests/, if it is there.

    For root the system's, for others the user's own. It is checked with `systemd-analyze verify` where that is there.
    """
    settings = settings_of(config) if config is not None else None
    named = settings.spec.sources if settings is not None else []
    if not paths and not named and os.path.isdir("manifests"):
        paths = ("manifests",)
    if not paths and not named:
        raise click.UsageError("what shall it bring up? There is no manifests/ here: reconciler install --systemd PATH")
    for path in paths:
        if not os.path.exists(path):
            raise click.UsageError(f"there is no {path!r}")
    looked_at(wanted)
    overlaid(wanted, paths)
    if enable and output is not None:
        raise click.UsageError("--enable and --output exclude each other: only a unit in its place can be enabled")
    root = os.geteuid() == 0
    options = ["--state", state_dir(state), *(["--prune"] if prune else []), *wanted.words()]
    options += [f"--config={os.path.abspath(config)}"] if config is not None else []
    words = [*_program(), "up", *(os.path.abspath(path) for path in paths), *options]
    target = "multi-user.target" if root else "default.target"
    text = _UNIT.format(command=" ".join(map(quoted, words)), target=target)
    if output == "-":
        click.echo(text, nl=False)
        return 0
    place = Path(output) if output is not None else _directory(root) / f"{name}.service"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    except OSError as error:
        raise Refused(f"{place} cannot be written: {error.strerror}", "be root, or choose --output FILE") from None
    sources = dict.fromkeys(map(os.path.abspath, (*paths, *(source.path for source in named))))
    click.echo(f"{place} written: it brings up {' '.join(sources)}")
    problems = verify(place, root)
    if problems:
        click.echo(f"error: systemd does not accept it:\n{problems}", err=True)
        return 1
    if not enable:
        if output is None:
            click.echo(f"start it with: systemctl {'' if root else '--user '}enable --now {name}")
        return 0
    for step in (["daemon-reload"], ["enable", "--now", f"{name}.service"]):
        done = subprocess.run(["systemctl", *([] if root else ["--user"]), *step])
        if done.returncode != 0:
            return 1
    return 0


def quoted(word: str) -> str:
    """One word of a command line in a unit file, where %, $, quotes and backslashes have meanings."""
    word = word.replace("%", "%%").replace("$", "$$")
    if word and not any(character in word for character in " \t'\"\\;"):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def verify(unit: Path, system: bool) -> str:
    """What `systemd-analyze verify` has to say against a unit; nothing where the program is missing."""
    program = shutil.which("systemd-analyze")
    if program is None:
        return ""
    manager = [] if system else ["--user"]
    done = subprocess.run(
        [program, "verify", *manager, "--man=no", str(unit)], capture_output=True, text=True, timeout=60
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if unit.name in line]
    return "\n".join(said) if done.returncode or said else ""


def _program() -> list[str]:
    """How this program is started, whatever the working directory."""
    script = Path(sys.executable).parent / "reconciler"
    return [str(script)] if script.exists() else [sys.executable, "-m", "reconciler"]


def _directory(root: bool) -> Path:
    if root:
        return Path("/etc/systemd/system")
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(home) / "systemd" / "user"
