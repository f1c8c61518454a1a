"""What peers are fetched from: Debian packages, unpacked, and Python packages in an environment of their own.

    ~/.cache/reconciler-benchmarks/NAME/usr/bin/...        unpacked("runit", ["runit"])
    ~/.cache/reconciler-benchmarks/NAME/bin/...            environment("queues", ["huey==3.5.4", ...])

Fetched once; nothing outside of that directory changes. What cannot be had raises Missing, and is left out of the table.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reconciler-benchmarks"


class Missing(Exception):
    """Why a peer cannot be measured here."""


def environment(name: str, requirements: Sequence[str]) -> Path:
    """The programs of a virtual environment with these packages. Raises Missing."""
    root = CACHE / name
    wanted = root / "requirements"
    if not wanted.exists() or wanted.read_text().split() != list(requirements):
        run([sys.executable, "-m", "venv", "--clear", str(root)])
        run([str(root / "bin/python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements])
        wanted.write_text("\n".join(requirements))
    return root / "bin"


def unpacked(program: str, packages: Sequence[str]) -> Path:
    """The directory of a program: the system's, else that of its unpacked Debian packages. Raises Missing."""
    if installed := shutil.which(program):
        return Path(installed).parent
    root = CACHE / packages[0]
    if not (root / "usr/bin" / program).exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise Missing(f"{program} is not installed, and this is no Debian to fetch it from")
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)  # apt fetches as a user of its own
            run(["apt-get", "download", *packages], directory)
            root.mkdir(parents=True, exist_ok=True)
            for package in Path(directory).glob("*.deb"):
                run(["dpkg-deb", "--extract", str(package), str(root)])
        if not (root / "usr/bin" / program).exists():
            raise Missing(f"{program} is not in what was unpacked of {packages[0]}")
    return root / "usr/bin"


def libraries(programs: Path) -> dict[str, str]:
    """The variables with which an unpacked program finds the libraries that were unpacked with it."""
    found = sorted(str(path) for path in programs.parent.glob("lib/*-linux-gnu*"))
    return {"LD_LIBRARY_PATH": ":".join(found)} if found and programs.is_relative_to(CACHE) else {}


def run(argv: Sequence[str], directory: str | None = None) -> None:
    """Runs an installer to its end. Raises Missing with its last words."""
    try:
        subprocess.run(argv, cwd=directory, check=True, capture_output=True, text=True, timeout=300)
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or ["no message"])[-1]
        raise Missing(f"{Path(argv[0]).name} failed: {last}") from error
    except subprocess.TimeoutExpired as error:
        raise Missing(f"{Path(argv[0]).name} took longer than {error.timeout:g} s") from error
