"""Probes: how a worker is asked whether it has started, whether it serves, and whether it is alive.

    startup     until it has succeeded the others wait; failed too often: the worker is stopped and started again
    readiness   failing: the worker is not counted, and a rollout waits for it; it is left running
    liveness    failed too often: the worker is stopped and started again, as after a crash

A probe asks in one way: httpGet, tcpSocket, exec, or notify (then it is the worker who speaks).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

from reconciler.resources.meta import NAME_PATTERN, Model
from reconciler.resources.units import BadValue, Duration, Moment, shown


class Kind(StrEnum):
    """What a probe is for."""

    STARTUP = "startup"
    READINESS = "readiness"
    LIVENESS = "liveness"


class Notify(StrEnum):
    """How a worker says by itself that it is ready, and alive."""

    SYSTEMD = "Systemd"
    """READY=1, and WATCHDOG=1 for liveness, to the socket in NOTIFY_SOCKET, as sd_notify(3) does."""
    NEWLINE = "Newline"
    """A newline, written to the descriptor whose number is in NOTIFY_FD."""


def port_of(value: Any) -> str:
    """The name of a declared port, or a number as text. Raises BadValue."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 65535:
        return str(value)
    if isinstance(value, str) and value and not value.isdigit():
        return value
    if isinstance(value, str) and value.isdigit() and 1 <= int(value[:6]) <= 65535:
        return value
    help = "write the name of one of template.ports, or a number from 1 to 65535"
    raise BadValue("value", f"expected the name of a port or its number, got {shown(value)}", help)


def _as_written(port: str) -> str | int:
    return int(port) if port.isdigit() else port


PortRef = Annotated[
    str,
    BeforeValidator(port_of),
    PlainSerializer(_as_written, when_used="json"),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "pattern": NAME_PATTERN}, {"type": "integer", "minimum": 1, "maximum": 65535}]}
    ),
]
"""A port's name; a number, which is then the same for all workers, is its decimal digits in the code."""


def host_of(value: Any) -> str:
    """An IP address. Raises BadValue."""
    try:
        return str(
            ipaddress.ip_address("127.0.0.1" if value == "localhost" else value if isinstance(value, str) else "")
        )
    except ValueError:
        help = "write 127.0.0.1, ::1 or the address it listens on: no name server is asked"
        raise BadValue("value", f"expected an IP address, got {shown(value)}", help) from None


def path_of(value: Any) -> str:
    """The path of a request. Raises BadValue."""
    if isinstance(value, str) and re.fullmatch(r"/[!-~]{0,4094}", value, re.ASCII):
        return value
    help = "begin it with /, and write spaces and letters beyond ASCII as %XX"
    raise BadValue("value", f"expected the path of a request, got {shown(value)}", help)


def header_name_of(value: Any) -> str:
    """The name of a header. Raises BadValue."""
    if isinstance(value, str) and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value):
        return value
    help = "write letters, digits and -, as in X-Probe"
    raise BadValue("value", f"expected the name of a header, got {shown(value)}", help)


def header_value_of(value: Any) -> str:
    """What a header says. Raises BadValue."""
    if isinstance(value, str) and re.fullmatch(r"[\t -~]*", value):
        return value
    help = "write text of ASCII on one line, in quotes where it looks like a number"
    raise BadValue("value", f"expected the value of a header, got {shown(value)}", help)


HeaderName = Annotated[str, BeforeValidator(header_name_of)]
HeaderValue = Annotated[str, BeforeValidator(header_value_of)]
Host = Annotated[str, BeforeValidator(host_of)]
HttpPath = Annotated[str, BeforeValidator(path_of), WithJsonSchema({"type": "string", "pattern": "^/[!-~]*$"})]


class Scheme(StrEnum):
    """With or without TLS; the words of Kubernetes."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"


class HttpHeader(Model):
    """One header of a request."""

    name: HeaderName = Field(max_length=256, description="As Accept.")
    value: HeaderValue = Field(max_length=4096, description="As it is sent; who may see the manifest sees it.")


class HttpGet(Model):
    """Asks by HTTP; a status of 200 to 399 is a success."""

    port: PortRef = Field(description="The name of one of template.ports, or a number.")
    path: HttpPath = Field(default="/", description="The path, with its query.")
    host: Host = Field(default="127.0.0.1", description="An IP address.")
    scheme: Scheme = Field(
        default=Scheme.HTTP,
        strict=False,
        description="HTTPS: over TLS; whose certificate it is is not looked at, for the address is known.",
    )
    http_headers: list[HttpHeader] = Field(
        default=[], max_length=100, description="Sent too; one named Host replaces ours."
    )


class TcpSocket(Model):
    """Asks by connecting; being let in is a success."""

    port: PortRef = Field(description="The name of one of template.ports, or a number.")
    host: Host = Field(default="127.0.0.1", description="An IP address.")


class Exec(Model):
    """Asks by a command, run as the worker is: same user, directory, environment. Exit code 0 is a success; no shell."""

    command: list[str] = Field(min_length=1, max_length=4096, description="argv; $(NAME) as in the worker's command.")


class Probe(Model):
    """One probe: exactly one way to ask, how often, and how many answers in a row count."""

    http_get: HttpGet | None = Field(default=None, description="By HTTP.")
    tcp_socket: TcpSocket | None = Field(default=None, description="By connecting.")
    exec: Exec | None = Field(default=None, description="By a command.")
    notify: Notify | None = Field(
        default=None,
        strict=False,
        description="The worker speaks. Systemd: READY=1, and WATCHDOG=1 each period for liveness, as sd_notify(3) does;"
        " Newline: a newline to the descriptor in NOTIFY_FD.",
    )
    initial_delay_s: Duration = Field(default=0.0, description="After the start, before the first try.")
    period_s: Duration = Field(default=10.0, description="From one try to the next.")
    timeout_s: Duration = Field(default=1.0, description="A try that takes longer has failed.")
    success_threshold: int = Field(default=1, ge=1, le=1000, description="Successes in a row that count.")
    failure_threshold: int = Field(default=3, ge=1, le=100_000, description="Failures in a row that count.")


WAYS = ("http_get", "tcp_socket", "exec", "notify")


class Probes(Model):
    """The probes of a worker; without any it is ready as soon as it has been executed."""

    startup: Probe | None = Field(default=None, description="Until it has succeeded the others wait.")
    readiness: Probe | None = Field(default=None, description="Whether it is counted as ready.")
    liveness: Probe | None = Field(default=None, description="Whether it is left running.")

    def of(self, kind: Kind) -> Probe | None:
        """The probe for that."""
        probe: Probe | None = getattr(self, kind.value)
        return probe

    def given(self) -> Iterator[tuple[Kind, Probe]]:
        """Those that there are."""
        if self.present:
            yield from ((kind, probe) for kind in Kind if (probe := self.of(kind)) is not None)

    @property
    def present(self) -> bool:
        """Whether there is one."""
        return self.startup is not None or self.readiness is not None or self.liveness is not None

    @property
    def notify_ways(self) -> set[Notify]:
        """How the worker is to speak by itself; empty: not at all."""
        probes = (self.startup, self.readiness, self.liveness)
        return {probe.notify for probe in probes if probe is not None and probe.notify is not None}


class Health(Model):
    """What the probes have found of one start of a worker."""

    instance: str
    started: bool = Field(default=False, description="The startup probe has succeeded, or there is none.")
    ready: bool = False
    notified: bool = Field(default=False, description="It has said by itself that it is ready.")
    ready_since: Moment | None = None
    dead: str = Field(default="", description="Why it is to be stopped and started again; empty: it is not.")
    message: str = Field(default="", description="The latest answer, while it is not a good one.")
