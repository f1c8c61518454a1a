"""The channels to warm workers: what they are fed, what they answer, kept here so that it outlives controllers.

    controller --feed--> [out] --+            +--> fd 0   worker
                                 | socketpair |
    controller <--said-- [unheard] <----------+--- fd 1   (stderr is its log)

Contract: a feed is taken whole or not at all, and its note tells the next controller what the worker has been given; an
answer is kept until a controller says that it is durable there, and told again to the one that comes after a death. So no
task reaches a worker twice and no answer is lost, at whatever instruction a controller dies. Nothing here is understood:
text goes through line by line.
"""

from __future__ import annotations

import _socket as socket
import select
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .machine import Child
from .protocol import Message
from .table import S
from .timers import Timers

READ_BYTES = 256 << 10
"""So much of one worker's answers is taken in a turn."""

TURN_BYTES = 2 << 20
"""And so much of all together; the rest waits in the sockets. A frame never grows too long by it."""

UNHEARD_BYTES = 1 << 20
"""A worker of which so much is not yet durable is not read for the time being; a longer line is no line."""

CLOSED_S = 1.0
"""A worker that has closed its side is given so long to end by itself."""


class Channel:
    """One worker's."""

    __slots__ = ("child", "closed", "fd", "note", "out", "part", "sock", "unheard", "upto")

    def __init__(self, child: Child, sock: socket.socket) -> None:
        self.child = child
        self.sock = sock
        self.fd = sock.fileno()
        self.note = ""
        """What the controller wants the next one to know."""
        self.out = b""
        """Fed, and not taken by the socket yet."""
        self.part = b""
        """A line that is not complete."""
        self.unheard = b""
        """Answers of which no controller has said that they are durable."""
        self.upto = 0
        """How many bytes of answers there have been."""
        self.closed = False


class Channels:
    """All of them; `say` takes a row for the controller."""

    def __init__(self, epoll: select.epoll, timers: Timers, say: Callable[[str, Any], None]) -> None:
        self._epoll = epoll
        self._timers = timers
        self._say = say
        self._by_instance: dict[str, Channel] = {}
        self.watched: dict[int, Channel] = {}
        """By descriptor."""
        self._over: list[Channel] = []
        """Of workers that have ended, which no controller may know yet."""
        self._left_bytes = TURN_BYTES
        self.listed = False
        """The controller has been told what is here: before that a word of it would be told twice."""

    def open(self, child: Child) -> int:
        """Makes one and returns the worker's end, which the caller closes after the start. Raises OSError."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        channel = Channel(child, ours)
        before = self._by_instance.pop(child.instance, None)
        if before is not None:  # of a try to start it that is made again
            self._unwatch(before)
            before.sock.close()
        self._by_instance[child.instance] = channel
        self.watched[channel.fd] = channel
        self._epoll.register(channel.fd, select.EPOLLIN)
        return theirs.detach()

    def forget(self) -> None:
        """Those of which the controller knows the end, and with it all that they had answered, are let go."""
        over, self._over = self._over, []
        for channel in over:
            if channel.child.state in (S.ABSENT, S.ACKED):
                self._by_instance.pop(channel.child.instance, None)
                channel.sock.close()
            else:
                self._over.append(channel)

    # -- what the controller says ------------------------------------------------------------------------------------

    def feed(self, rows: Sequence[Sequence[Any]]) -> None:
        """[instance, heard, note, text]: answers up to `heard` are durable; the note is kept; the text is passed on."""
        for instance, heard, note, text in rows:
            channel = self._by_instance.get(instance)
            if channel is None:
                continue  # it has ended, which the controller is being told
            kept = max(0, channel.upto - heard)
            channel.unheard = channel.unheard[len(channel.unheard) - kept :] if kept else b""
            channel.note = note
            if text:
                channel.out += text.encode("utf-8", "surrogateescape")
                self._write(channel)
            self._watch(channel)

    def listing(self) -> Iterator[list[Message]]:
        """Every channel and its note, then the answers that are not known to be durable; in frames."""
        rows = [(channel.child.key, instance, channel.note) for instance, channel in self._by_instance.items()]
        self.listed = True
        yield [("channels", rows)]
        for instance, channel in self._by_instance.items():
            if channel.unheard:
                yield [("said", [_row(channel.child.key, instance, channel.upto, channel.unheard)])]

    # -- what happens ------------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """A new turn begins."""
        self._left_bytes = TURN_BYTES

    def ready(self, channel: Channel, events: int) -> None:
        """Its socket can be written or read."""
        if events & select.EPOLLOUT:
            self._write(channel)
        if events & ~select.EPOLLOUT and self._left_bytes > 0:
            self._read(channel)
        self._watch(channel)

    def ended(self, child: Child) -> None:
        """The worker is dead: what it had said before is taken in whole, for its end is told next."""
        channel = self._by_instance.get(child.instance)
        if channel is not None:
            while not channel.closed and self._read(channel):
                pass
            self._unwatch(channel)
            self._over.append(channel)

    def _read(self, channel: Channel) -> int:
        try:
            data = channel.sock.recv(READ_BYTES)
        except BlockingIOError:
            return 0
        except ConnectionError:
            data = b""
        if not data:
            channel.closed = True
            self._unwatch(channel)
            self._timers.later(CLOSED_S, self._look_at_closed, channel)
            return 0
        self._left_bytes -= len(data)
        lines, newline, rest = (channel.part + data).rpartition(b"\n")
        if len(rest) > UNHEARD_BYTES:
            lines, newline, rest = lines + newline + rest, b"", b""  # no line at all: whoever reads it will see that
        channel.part = rest
        if lines or newline:
            self._heard(channel, lines + newline)
        return len(data)

    def _heard(self, channel: Channel, text: bytes) -> None:
        channel.unheard += text
        channel.upto += len(text)
        if self.listed:
            self._say("said", _row(channel.child.key, channel.child.instance, channel.upto, text))

    def _look_at_closed(self, channel: Channel) -> None:
        """It lives and will never answer again."""
        if channel.child.state is S.UP and self._by_instance.get(channel.child.instance) is channel:
            self._say("said", (channel.child.key, channel.child.instance, channel.upto, None))

    def _write(self, channel: Channel) -> None:
        while channel.out:
            try:
                channel.out = channel.out[channel.sock.send(channel.out) :]
            except BlockingIOError:
                return
            except ConnectionError:
                channel.out = b""  # its end is seen elsewhere

    def _watch(self, channel: Channel) -> None:
        if self.watched.get(channel.fd) is channel:
            wanted = select.EPOLLIN if len(channel.unheard) < UNHEARD_BYTES else 0
            self._epoll.modify(channel.fd, wanted | (select.EPOLLOUT if channel.out else 0))

    def _unwatch(self, channel: Channel) -> None:
        if self.watched.pop(channel.fd, None) is not None:
            self._epoll.unregister(channel.fd)


def _row(key: str, instance: str, upto: int, text: bytes) -> tuple[str, str, int, str]:
    return key, instance, upto, text.decode("utf-8", "surrogateescape")
