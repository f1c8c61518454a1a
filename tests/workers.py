"""The hostile cast: programs that behave as badly as real ones do. Standard library only, one file.

    python workers.py ROLE [ARG ...]

Most roles first take their slot (see `take_slot`), so the ledger says who lived when, whatever the supervisor believes:

    LEDGER/ledger               one line an event, appended whole:  start|stop|DOUBLE  SLOT INSTANCE PID TIME
                                                                    task-start|task-end  TASK ATTEMPT PID TIME [CODE]
    LEDGER/slots/SLOT.lock      held by flock for as long as any process of the slot's tree lives

A second holder of a slot writes DOUBLE and ends with 99. LEDGER is a variable of the environment, or, where a role is
given without one, no ledger is kept.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import NoReturn

DOUBLE_EXIT_CODE = 99

_kept: list[int] = []
"""Descriptors that must stay open for the life of the process."""


def main(argv: list[str]) -> None:
    """Plays the role that argv names."""
    role = ROLES[argv[1]]
    role(*argv[2:])


# --- the ledger ---


def note(*words: object) -> None:
    """Appends one line to the ledger, whole, with one write."""
    directory = os.environ.get("LEDGER")
    if directory is None:
        return
    fd = os.open(f"{directory}/ledger", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    os.write(fd, (" ".join(str(word) for word in words) + "\n").encode())
    os.close(fd)


def take_slot() -> None:
    """Writes `start`, or `DOUBLE` when another process of this slot still lives."""
    directory = os.environ.get("LEDGER")
    if directory is None:
        return
    os.makedirs(f"{directory}/slots", exist_ok=True)
    fd = os.open(f"{directory}/slots/{_slot()}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        note("DOUBLE", _slot(), _instance(), os.getpid(), time.time())
        os._exit(DOUBLE_EXIT_CODE)
    _kept.append(fd)
    note("start", _slot(), _instance(), os.getpid(), time.time())


def leave(code: int = 0) -> NoReturn:
    """Writes `stop` and ends."""
    note("stop", _slot(), _instance(), os.getpid(), time.time())
    os._exit(code)


def _slot() -> str:
    return os.environ.get("RECONCILER_WORKER", "nobody")


def _instance() -> str:
    return os.environ.get("RECONCILER_INSTANCE", "none")


def live() -> NoReturn:
    """Waits for signals until SIGTERM."""
    leave_at_term()
    while True:
        signal.pause()


def leave_at_term(after_s: float = 0.0) -> None:
    """Before the ledger says that it runs: who reads that may stop it at once."""

    def term(signo: int, frame: object) -> None:
        time.sleep(after_s)
        leave()

    signal.signal(signal.SIGTERM, term)


# --- workers ---


def ledger() -> None:
    """The well-behaved one."""
    leave_at_term()
    take_slot()
    live()


def exit_n(code: str = "1", after_s: str = "0") -> None:
    """Ends by itself, at once or a little later."""
    take_slot()
    time.sleep(float(after_s))
    leave(int(code))


def crash_once(marker: str, code: str = "1") -> None:
    """Ends with `code` while the file `marker` exists; lives otherwise."""
    leave_at_term()
    take_slot()
    if os.path.exists(marker):
        leave(int(code))
    live()


def ignore_term() -> None:
    """Only SIGKILL ends it."""
    signal.signal(signal.SIGTERM, lambda signo, frame: note("term", _slot(), _instance(), os.getpid(), time.time()))
    take_slot()
    while True:
        signal.pause()


def stop_self() -> None:
    """Stops itself like a debugger would; a SIGTERM waits until somebody sends SIGCONT."""
    leave_at_term()
    take_slot()
    os.kill(os.getpid(), signal.SIGSTOP)
    live()


def slow_exit(after_s: str = "0.5") -> None:
    """Takes its time after SIGTERM."""
    leave_at_term(float(after_s))
    take_slot()
    while True:
        signal.pause()


def double_fork() -> None:
    """Leaves a daemon of its own behind: another session, another parent, deaf to SIGTERM."""
    take_slot()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            note("daemon", _slot(), _instance(), os.getpid(), time.time())
            while True:
                signal.pause()
        os._exit(0)
    os.wait()
    live()


def leave_children(count: str = "2", code: str = "0") -> None:
    """Ends at once while its children go on in its process group."""
    take_slot()
    for _ in range(int(count)):
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            note("child", _slot(), _instance(), os.getpid(), time.time())
            while True:
                signal.pause()
    time.sleep(0.05)
    leave(int(code))


def setsid_hold_pipe(code: str = "3") -> None:
    """A grandchild in its own session keeps stdout open after the end of the worker."""
    take_slot()
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            signal.pause()
    leave(int(code))


def flood(count_bytes: str) -> None:
    """Writes that many bytes of whole lines as fast as it can, then lives."""
    take_slot()
    line = b"x" * 99 + b"\n"
    block = line * 1000
    left = int(count_bytes)
    while left > 0:
        left -= os.write(1, block[:left])
    note("flooded", _slot(), _instance(), os.getpid(), time.time())
    live()


def no_newline(count_bytes: str) -> None:
    """One endless line."""
    take_slot()
    left = int(count_bytes)
    while left > 0:
        left -= os.write(1, b"y" * min(left, 1 << 20))
    note("flooded", _slot(), _instance(), os.getpid(), time.time())
    live()


def garbage() -> None:
    """Bytes that are no text: control sequences, invalid UTF-8, NUL."""
    take_slot()
    os.write(1, b"\x1b[2J\x1b]0;owned\x07\xff\xfe\x00bad\n")
    live()


def say(text: str, code: str = "0") -> None:
    """Prints a line and ends."""
    os.write(1, text.encode() + b"\n")
    os._exit(int(code))


def close_stdio() -> None:
    """Closes 0, 1 and 2 and lives on."""
    leave_at_term()
    take_slot()
    for fd in (0, 1, 2):
        os.close(fd)
    live()


def thread_leader_exit() -> None:
    """The first thread ends (state Z), another goes on: the process is alive all the same."""
    take_slot()
    stay = threading.Thread(target=lambda: [time.sleep(0.05) for _ in range(1_000_000)])
    stay.start()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the kernel hands it to the thread that is left
    ctypes.CDLL(None).syscall(60 if os.uname().machine == "x86_64" else 93, 0)  # exit, of this thread alone


def cwd_delete() -> None:
    """Removes the directory it works in."""
    take_slot()
    gone = tempfile.mkdtemp()
    os.chdir(gone)
    os.rmdir(gone)
    live()


def fork_tree(depth: str = "3", width: str = "2") -> None:
    """A tree of processes, all deaf to SIGTERM but the root."""
    take_slot()
    for _ in range(int(width)):
        if os.fork() == 0:
            _grow(int(depth) - 1, int(width))
    live()


def _grow(depth: int, width: int) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for _ in range(width if depth > 0 else 0):
        if os.fork() == 0:
            _grow(depth - 1, width)
    note("leaf" if depth == 0 else "branch", _slot(), _instance(), os.getpid(), time.time())
    while True:
        signal.pause()


def zombies(count: str = "5") -> None:
    """Never waits for its children, and leaves one orphan that ends later."""
    take_slot()
    for _ in range(int(count)):
        if os.fork() == 0:
            os._exit(0)
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.2)
            os._exit(0)
        os._exit(0)
    live()


def wipe_environ() -> None:
    """Overwrites its own environment block, as programs do that rewrite their title."""
    leave_at_term()
    take_slot()
    with open("/proc/self/stat", "rb") as stat:
        fields = stat.read().rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    ctypes.memset(start, 0, end - start)
    note("wiped", _slot(), _instance(), os.getpid(), time.time())
    live()


def show(path: str) -> None:
    """Writes what it has been given into a file, then lives: descriptors, signals, identity, environment."""
    descriptors = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))
    opened = descriptors[-1]  # listdir's own
    with open("/proc/self/status") as status:
        signals = [line.strip() for line in status if line.startswith(("Sig", "Groups", "NoNewPrivs"))]
    with open("/proc/self/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    umask = os.umask(0o022)
    shown = {
        "fds": [fd for fd in descriptors if fd != opened],
        "status": signals,
        "session": os.getsid(0) == os.getpid(),
        "group": os.getpgid(0) == os.getpid(),
        "tty": int(fields[4]),
        "nice": int(fields[16]),
        "umask": umask,
        "cwd": os.getcwd(),
        "uid": os.getuid(),
        "gid": os.getgid(),
        "stdin": os.readlink("/proc/self/fd/0"),
        "env": dict(os.environ),
        "argv": sys.argv,
    }
    import json

    with open(f"{path}.new", "w") as out:
        json.dump(shown, out)
    os.rename(f"{path}.new", path)
    take_slot()
    live()


def serve_socket() -> None:
    """Accepts on the socket it has been given (descriptor 3) and answers with its pid."""
    import socket

    assert os.environ["LISTEN_PID"] == str(os.getpid()) and os.environ["LISTEN_FDS"] == "1"
    signal.signal(signal.SIGTERM, lambda signo, frame: leave())
    take_slot()
    listening = socket.socket(fileno=3)
    while True:
        connection, _ = listening.accept()
        connection.sendall(str(os.getpid()).encode())
        connection.close()


def serve_health(directory: str, certificate: str = "") -> None:
    """Serves HTTP on PORT: /NAME is 200 where DIRECTORY/SLOT.NAME exists, else 503; /hang is never answered.

    With CERTIFICATE (and its key, in one file) over TLS, and only to who sends the header X-Probe: let me in.
    """
    import http.server
    import ssl

    signal.signal(signal.SIGTERM, lambda signo, frame: leave())
    take_slot()

    class Health(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if os.path.exists(f"{directory}/{_slot()}.hang"):
                signal.pause()
            well = os.path.exists(f"{directory}/{_slot()}.{self.path[1:]}")
            well = well and (not certificate or self.headers["X-Probe"] == "let me in")
            self.send_response(200 if well else 503)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok" if well else b"no")
            self.log_message("asked")

        def log_message(self, format: str, *args: object) -> None:
            with open(f"{directory}/{_slot()}.asked", "a") as asked:
                asked.write(f"{time.time()} {self.path}\n")

    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Health)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


def say_to_manager(text: str) -> None:
    """One datagram to NOTIFY_SOCKET, as sd_notify(3) sends it."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):  # nobody may be there
        sock.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])


def notify(directory: str, by: str = "itself") -> None:
    """Says READY=1 once DIRECTORY/SLOT.go is there, by itself, a child, or a daemon of its; then WATCHDOG=1 while it is."""
    signal.signal(signal.SIGTERM, lambda signo, frame: leave())
    take_slot()
    while not os.path.exists(f"{directory}/{_slot()}.go"):
        time.sleep(0.02)
    if by == "itself":
        say_to_manager("STATUS=warm\nREADY=1\nMAINPID=1\n")
    elif os.fork() == 0:
        if by == "daemon":
            os.setsid()
            if os.fork():
                os._exit(0)
        while os.path.exists(f"{directory}/{_slot()}.go"):
            say_to_manager("READY=1")
            time.sleep(0.05)
        os._exit(0)
    while True:
        if os.path.exists(f"{directory}/{_slot()}.go"):
            say_to_manager("WATCHDOG=1")
        time.sleep(int(os.environ.get("WATCHDOG_USEC", "100000")) / 2e6)


def newline(directory: str, first: str = "") -> None:
    """Writes a newline to NOTIFY_FD once DIRECTORY/SLOT.go is there; `close`: closes it and says nothing."""
    signal.signal(signal.SIGTERM, lambda signo, frame: leave())
    take_slot()
    fd = int(os.environ["NOTIFY_FD"])
    if first == "close":
        os.close(fd)
        live()
    while not os.path.exists(f"{directory}/{_slot()}.go"):
        time.sleep(0.02)
    os.write(fd, b"\n")
    os.close(fd)
    live()


# --- tasks ---


def task(code: str = "0", seconds: str = "0") -> None:
    """Runs, and says in the ledger that it began and how it ended."""
    name, attempt = os.environ["RECONCILER_TASK"], os.environ["RECONCILER_ATTEMPT"]
    note("task-start", name, attempt, os.getpid(), time.time())
    time.sleep(float(seconds))
    note("task-end", name, attempt, os.getpid(), time.time(), code)
    os._exit(int(code))


def task_until(attempt_that_succeeds: str) -> None:
    """Fails until that attempt."""
    task("0" if int(os.environ["RECONCILER_ATTEMPT"]) >= int(attempt_that_succeeds) else "7")


ROLES: dict[str, Callable[..., None]] = {
    "ledger": ledger,
    "exit-n": exit_n,
    "crash-once": crash_once,
    "ignore-term": ignore_term,
    "stop-self": stop_self,
    "slow-exit": slow_exit,
    "double-fork": double_fork,
    "leave-children": leave_children,
    "setsid-hold-pipe": setsid_hold_pipe,
    "flood": flood,
    "no-newline": no_newline,
    "garbage": garbage,
    "say": say,
    "close-stdio": close_stdio,
    "thread-leader-exit": thread_leader_exit,
    "cwd-delete": cwd_delete,
    "fork-tree": fork_tree,
    "zombies": zombies,
    "wipe-environ": wipe_environ,
    "show": show,
    "serve-health": serve_health,
    "newline": newline,
    "notify": notify,
    "serve-socket": serve_socket,
    "task": task,
    "task-until": task_until,
}

if __name__ == "__main__":
    main(sys.argv)
