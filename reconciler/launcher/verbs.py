"""What the controller may ask of the launcher, word by word; see `protocol` for what each means.

Contract: a word that is none, or says nothing that makes sense, is a FrameError and ends the connection; nothing of it has
been done then that a later controller would trip over.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from . import limits, manager, system
from .adoption import boottime_ms
from .children import Children
from .keeper import Controller
from .machine import Machine
from .protocol import OLDEST, VERSION, FrameError, Limits, Message, Template
from .starter import Prepared
from .wires import complain

MAX_SLOTS = 100_000


class Verbs:
    """Turns words into calls. `say` sends what the machine has to say, `about` tells of this launcher."""

    def __init__(
        self,
        machine: Machine,
        children: Children,
        send: Callable[[Controller, Sequence[Message]], None],
        say: Callable[[], None],
        about: Callable[[], dict[str, Any]],
        terminate: Callable[[], None],
        finish: Callable[[Controller, int], None],
    ) -> None:
        self._machine = machine
        self._children = children
        self._send = send
        self._say = say
        self._about = about
        self._terminate = terminate
        self._finish_with = finish
        self._verbs: dict[str, Callable[..., None]] = {
            "hello": self._hello, "list": self._list, "register": self._register, "lane": self._lane,
            "socket": self._socket, "unsocket": self._unsocket, "spawn": self._spawn, "recall": self._recall,
            "signal": self._signal, "ack": self._ack, "ping": self._ping, "feed": self._feed, "serving": self._serving,
            "preStop": self._pre_stop,
            "terminate": self._asked_to_end, "finish": self._finish,
        }  # fmt: skip

    def obey(self, controller: Controller, message: list[Any], closing: bool) -> None:
        """Does what it says, unless everything is ending. Raises FrameError."""
        word, *rest = message
        if not controller.greeted and word != "hello":
            raise FrameError(f"{word!r} before hello")
        verb = self._verbs.get(word)
        if verb is None:
            raise FrameError(f"unknown word {word!r}")
        if closing:
            return
        try:
            verb(controller, *rest)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise FrameError(f"{word}: {type(error).__name__}: {error}") from error

    def _hello(self, controller: Controller, version: int) -> None:
        self._send(controller, [["hello", VERSION, self._about()]])
        if controller.greeted:
            raise FrameError("hello was said before")
        if version < OLDEST:
            raise FrameError(f"it speaks version {version}, the oldest understood here is {OLDEST}")
        controller.greeted = True
        self._machine.hello()
        self._children.channels.listed = False
        self._children.prepared.clear()

    def _list(self, controller: Controller) -> None:
        self._say()  # what was said before comes before
        for messages in self._children.channels.listing():
            self._send(controller, messages)
        for messages in self._machine.listing(boottime_ms(), int(time.time() * 1000)):
            self._send(controller, messages)

    def _register(self, controller: Controller, template_id: str, fields: dict[str, Any]) -> None:
        template = _checked(Template(**{**fields, "id": template_id}))
        self._children.prepared[template_id] = prepared = Prepared(template)
        self._machine.register(template)
        lacking = self._children.lacking(prepared)
        if lacking:
            self._send(controller, [["unenforced", template_id, lacking]])

    def _lane(self, controller: Controller, name: str, slots: int) -> None:
        if not isinstance(slots, int) or not 0 <= slots <= MAX_SLOTS:
            raise FrameError(f"lane {name} with {slots!r} slots")
        self._machine.lane(name, slots)

    def _socket(self, controller: Controller, name: str, address: str) -> None:
        sockets = self._children.sockets
        held = sockets.get(name)
        if held is not None and held[0] == address:
            return
        try:
            sock = system.listen(address)
        except (OSError, ValueError) as error:
            number = error.errno if isinstance(error, OSError) else errno.EINVAL
            self._send(controller, [["socketFailed", name, number, str(error)]])
            return
        if held is not None:
            held[1].close()
        sockets[name] = address, sock

    def _unsocket(self, controller: Controller, name: str) -> None:
        held = self._children.sockets.pop(name, None)
        if held is not None:
            path = held[1].getsockname()
            held[1].close()
            if isinstance(path, str):
                with suppress(FileNotFoundError):
                    os.unlink(path)

    def _spawn(self, controller: Controller, rows: list[list[Any]]) -> None:
        for key, instance, template, argv, env, log in rows:
            system.encode(key)  # what cannot be said again is refused at once
            system.encode(instance)
            if argv is not None:
                _all_text(argv)
            if env is not None:
                _all_text([*env, *env.values()])
            self._machine.spawn(key, instance, template, argv, env, log if log is None else str(log))

    def _pre_stop(
        self, controller: Controller, key: str, instance: str, template: str, argv: list[str], env: dict[str, str]
    ) -> None:
        _all_text(argv)
        _all_text([*env, *env.values()])
        self._machine.pre_stop(key, instance, template, argv, env)

    def _recall(self, controller: Controller, keys: list[str]) -> None:
        self._machine.recall(keys)

    def _signal(self, controller: Controller, key: str, instance: str, signo: int, scope: str) -> None:
        child = self._machine.alive(key, instance)
        if child is not None and isinstance(signo, int):
            self._children.signal(child, signo, scope)

    def _ack(self, controller: Controller, seq: int) -> None:
        self._machine.ack(int(seq))
        self._children.channels.forget()

    def _feed(self, controller: Controller, rows: list[list[Any]]) -> None:
        for instance, heard, note, text in rows:
            _all_text([instance, note, text or ""])
            if not isinstance(heard, int):
                raise TypeError(f"{instance}: heard up to {heard!r}")
        self._children.channels.feed(rows)

    def _ping(self, controller: Controller) -> None:
        self._send(controller, [["pong"]])

    def _serving(self, controller: Controller) -> None:
        controller.serving = True
        problem = manager.tell("READY=1")
        if problem:
            complain(problem)

    def _asked_to_end(self, controller: Controller) -> None:
        self._terminate()

    def _finish(self, controller: Controller, code: int) -> None:
        self._finish_with(controller, int(code))


_TEXT = {str}


def _all_text(words: Sequence[Any]) -> None:
    if isinstance(words, str) or not {*map(type, words)} <= _TEXT:
        raise TypeError(f"{words!r:.80} is no list of strings")


def _checked(template: Template) -> Template:
    """What is kept for later must be what it says. Raises TypeError."""
    _all_text([template.id, template.cwd, *template.argv, *template.sockets, *template.env, *template.env.values()])
    optional = [number for number in (template.uid, template.gid) if number is not None]
    for number in (template.umask, template.stop_signal, template.grace_ms, *optional, *(template.groups or ())):
        if not isinstance(number, int):
            raise TypeError(f"template {template.id}: {number!r} is no whole number")
    if template.lane is not None:
        _all_text([template.lane])
    limits.check(Limits(**template.limits))
    return template
