"""What controller and launcher say to each other over their socketpair. Values in, values out; no I/O.

    frame     4 bytes little-endian length, then one JSON array of messages; one frame a turn each way
    message   an array whose first item is the word

    controller -> launcher
      ["hello", version]                                 first; the launcher answers with its own hello
      ["list"]                                           answered by "channels" and every "said" that is not durable, then
                                                         by every unacknowledged "exited" and by "children"
      ["register", Template.id, {...Template fields}]    once a template; again replaces it
      ["lane", name, slots]                              how many spawns of that lane may run at once (FIFO behind)
      ["socket", name, address]                          bind, listen and hold; asked twice, bound once
      ["unsocket", name]                                 close it
      ["spawn", [[key, instance, template, argv|null, env|null, log|null], ...]]
      ["feed", [[instance, heard, note, text], ...]]     to the channel of a warm worker: its answers up to byte `heard` are
                                                         durable here, `text` goes to its stdin; the note is kept and listed
      ["preStop", key, instance, template, argv, env]    what is run before the stop signal of a spawn that was just asked for,
                                                         should the launcher have to stop it alone
      ["recall", [key, ...]]                             give back what still waits for a slot; answered by "recalled"
      ["signal", key, instance, signo, scope]            scope "group" (then SIGCONT), "main" (that process alone) or "tree"
                                                         (kills whatever it can find)
      ["ack", seq]                                       exit records up to seq are durable here: forget them
      ["serving"]                                        this controller is up: forget the restart backoff
      ["terminate"]                                      as SIGTERM to the launcher: also a controller that dies is no way back
      ["ping"]                                           answered by "pong": the other side lives
      ["finish", code]                                   end the launcher with this exit code; what runs keeps running

    launcher -> controller
      ["hello", version, {pid, startedAt, bootId, controllerRestarts, containment, limits, api}]
      ["children", [[key, instance, pid, started_ms, slot, adopted, state], ...]]   state "up" | "emptying" | "blocked"
      ["started", [[key, instance, pid, started_ms, slot], ...]]
      ["channels", [[key, instance, note], ...]]         to a "list": the warm workers that can be fed, and their latest notes
      ["said", [[key, instance, upto, text], ...]]       whole lines of a worker's stdout, which end at byte `upto`; text null:
                                                         it has closed it
      ["exited", [[seq, key, instance, Exit], ...]]      Exit is an object, see below; also failed starts
      ["emptied", [[key, instance, escaped], ...]]       the tree of an exited instance is gone; escaped: how many had to be found
      ["stuck", [[key, instance, pid], ...]]             SIGKILL did not end it (state D): the slot stays taken
      ["unenforced", template, {limit: why}]             to a "register": limits that this machine cannot enforce; it starts
                                                         without them unless they are required
      ["blocked", key, instance, why]                    the key is held by another instance that may live: nothing was started
      ["recalled", [key, ...]]                           of those asked for: they never started, and will not
      ["socketFailed", name, errno, text]
      ["terminate", count]                               SIGTERM or SIGINT came for the n-th time
      ["rescan"]                                         SIGHUP came
      ["pong"]                                           to a "ping"

A spawn with a (key, instance) that the launcher knows, running or ended but unacknowledged, starts nothing: asked twice,
run once. A spawn whose key is held by another live instance is answered with "blocked".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from struct import Struct
from typing import Any, NamedTuple, TypedDict

VERSION = 1
OLDEST = 1
"""The oldest version of the other side that this one understands."""

PRE_STOP_KIND = "prestop"
PRE_STOP_MARK = ".preStop"
"""The command before a worker's stop signal has the key `prestop/NAME`, and the worker's instance with this behind it."""

MAX_FRAME_BYTES = 16 << 20
"""A longer frame is a defect or an attack: the connection ends."""

_HEAD = Struct("<I")
_encode = json.JSONEncoder(separators=(",", ":"), check_circular=False, ensure_ascii=False).encode

Message = Sequence[Any]


class FrameError(Exception):
    """The other side does not speak the protocol; the connection cannot be used any longer."""


class Limits(NamedTuple):
    """What is set in the child before its exec; where nothing of it is asked for, the start is as fast as any."""

    nice: int | None = None
    rlimits: dict[str, int] = {}
    """By the kernel's names in lower case, soft and hard alike."""
    memory_bytes: int | None = None
    """This and the next three: of the whole tree, by cgroup."""
    cpu_milli: int | None = None
    """Thousandths of one core."""
    cpu_weight: int | None = None
    """1 to 10000, 100 is usual."""
    pids: int | None = None
    required: bool = False
    """The start fails where the cgroups cannot be had."""
    no_new_privileges: bool = False
    read_write_paths: list[str] | None = None
    """Given: everything else is read-only, by Landlock; implies no_new_privileges."""
    private_tmp: bool = False


class Template(NamedTuple):
    """What the starts of one revision have in common; sent once, encoded once."""

    id: str
    argv: list[str]
    """May be empty when each spawn brings its own (tasks)."""
    env: dict[str, str]
    cwd: str = "/"
    uid: int | None = None
    """None: the launcher's own; else the fork path is taken."""
    gid: int | None = None
    groups: list[int] | None = None
    umask: int = 0o022
    sockets: list[str] = []
    """Names of held sockets, passed from descriptor 3 on with LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES."""
    notify: bool = False
    """After those a descriptor is passed to say by a newline that it is ready; what is written stands in LOG.ready."""
    stop_signal: int = 15
    grace_ms: int = 30_000
    lane: str | None = None
    """Spawns of a lane wait for one of its slots; without a lane they start at once."""
    contain: bool = True
    """True: an own cgroup where the host allows, and "emptied" is sent after "exited". Tasks are not contained one by one:
    their group is killed with them, and what escaped is found by a sweep."""
    limits: dict[str, Any] = {}
    """The fields of Limits that are given."""
    channel: bool = False
    """Its stdin and stdout are a channel to the controller, which the launcher holds; only stderr goes to its log."""


class Exit(TypedDict, total=False):
    """How one process ended, or why it never began. Exactly one of code, signal, failed, unknown is given."""

    pid: int
    code: int
    signal: int
    core: bool
    failed: list[Any]
    """[step, errno, text]: step is one of expand, secret, resolve, log, cgroup, fork, sockets, sandbox, nice, identity, rlimits,
    chdir, exec."""
    unknown: str
    """Why nobody can know how it ended: "reboot", "unseen", "lost"."""
    at_ms: int
    started_ms: int
    slot: int
    cpu_ms: int
    """CPU time it used with the children it waited for; absent when nobody could see."""
    log_bytes: int
    """Size of its log when it ended; 0: the file has been removed."""
    oom: int
    """How many of its processes the kernel killed because they went beyond their memory limit, or the host's."""


def frame(messages: Sequence[Message]) -> bytes:
    """One frame that holds all the messages of a turn."""
    body = _encode(messages).encode("utf-8", "surrogateescape")
    return _HEAD.pack(len(body)) + body


class Decoder:
    """Cuts a stream of bytes back into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[list[Any]]:
        """The messages that are complete now.

        Raises FrameError for a frame that is too long, is no JSON, or is no array of arrays that begin with a word.
        """
        buffer = self._rest + data if self._rest else data
        at, end = 0, len(buffer)
        while end - at >= 4:
            (size,) = _HEAD.unpack_from(buffer, at)
            if size > MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {size} bytes, more than {MAX_FRAME_BYTES}")
            if end - at - 4 < size:
                break
            yield from _messages(buffer[at + 4 : at + 4 + size])
            at += 4 + size
        self._rest = buffer[at:]


def _messages(body: bytes) -> list[list[Any]]:
    try:
        found = json.loads(body.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise FrameError(f"not JSON: {error}") from None
    if not isinstance(found, list) or not all(isinstance(m, list) and m and isinstance(m[0], str) for m in found):
        raise FrameError("not an array of messages")
    return found
