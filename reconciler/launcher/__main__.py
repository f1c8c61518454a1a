"""python -I -S .../reconciler/launcher/__main__.py --state DIR [--no-cgroup] -- CONTROLLER_ARGV...

Executed as a file and without site-packages, so that nothing but the standard library can ever be loaded; the place of the
package is put on the path here. It executes itself a second time, once it has made itself a subreaper: the flag stays with
the process, and the megabyte of ctypes that sets it does not.

`--no-cgroup` leaves containment to sessions and tokens, also where there would be cgroups.
"""

from __future__ import annotations

import os
import signal
import sys

_PREPARED = "--prepared"
_PR_SET_CHILD_SUBREAPER = 36


def _run(words: list[str]) -> int:
    # until the handlers stand, a signal waits
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
    if words[:1] != [_PREPARED]:
        _prepare(words)
    options, mark, controller = _split(words[1:])
    use_cgroup = "--no-cgroup" not in options
    rest = [word for word in options if word != "--no-cgroup"]
    if not mark or not controller or len(rest) != 2 or rest[0] != "--state":
        print("usage: reconciler/launcher/__main__.py --state DIR [--no-cgroup] -- CONTROLLER...", file=sys.stderr)
        return 2
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    from reconciler.launcher.main import main

    return main(rest[1], controller, use_cgroup)


def _prepare(words: list[str]) -> None:
    """Descriptors 0 to 2 exist and no others, and orphans of our children come to us. Does not return."""
    while (fd := os.open("/dev/null", os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and os.path.exists(f"/proc/self/fd/{name}"):
            os.set_inheritable(int(name), False)  # whoever started us may have left some open

    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        print(f"reconciler: no subreaper: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
    os.execv(sys.executable, [sys.executable, "-I", "-S", os.path.abspath(__file__), _PREPARED, *words])


def _split(words: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in words:
        return words, False, []
    at = words.index("--")
    return words[:at], True, words[at + 1 :]


if __name__ == "__main__":
    sys.exit(_run(sys.argv[1:]))
