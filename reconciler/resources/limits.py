"""Who a process is, how much it may use and what it may touch: parts of a Pool's template.

    resources   of the whole tree, by cgroup: memory, CPU, processes
    rlimits     of each process
    sandbox     what it can gain and write

Reads: one template. Says: Findings of what the types cannot say.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from reconciler.resources.meta import Model
from reconciler.resources.units import Cpu, Duration, Size, format_size, shown

if TYPE_CHECKING:
    from reconciler.resources.pool import Template

LEAST_MEMORY_BYTES = 1 << 20
"""Less kills every program before its first line."""


class Enforcement(StrEnum):
    """What happens where a limit cannot be enforced."""

    BEST_EFFORT = "BestEffort"
    REQUIRED = "Required"


class Limits(Model):
    """The most that a worker or task may use, with all its children."""

    sparse: ClassVar[bool] = True

    memory_bytes: Size | None = Field(default=None, description="Beyond it the kernel kills (OOMKilled); no swap.")
    cpu_milli: Cpu | None = Field(default=None, description="500m is half a core; more is slowed down.")
    pids: int | None = Field(default=None, ge=1, le=1 << 22, description="Processes and threads.")


class Resources(Model):
    """What of the machine a worker or task may use, with all its children."""

    sparse: ClassVar[bool] = True

    limits: Limits = Field(default=Limits.model_construct(), description="The most of it.")
    cpu_weight: int | None = Field(
        default=None, ge=1, le=10_000, description="Its share where CPU is short; 100 is usual."
    )
    enforcement: Enforcement = Field(
        default=Enforcement.BEST_EFFORT,
        strict=False,
        description="Where the machine cannot: BestEffort starts without and says so, Required starts nothing.",
    )


class Rlimits(Model):
    """Limits of each single process, soft and hard; see setrlimit(2)."""

    sparse: ClassVar[bool] = True

    nofile: int | None = Field(default=None, ge=3, le=1 << 30, description="Open descriptors.")
    nproc: int | None = Field(
        default=None, ge=1, le=1 << 22, description="Processes of its user, on the whole machine."
    )
    core_bytes: Size | None = Field(default=None, description="Size of a core dump; absent: none is written.")
    fsize_bytes: Size | None = Field(default=None, description="Size of any file it writes.")
    as_bytes: Size | None = Field(default=None, description="Address space.")
    data_bytes: Size | None = Field(default=None, description="Data segment.")
    stack_bytes: Size | None = Field(default=None, description="Stack of its main thread.")
    memlock_bytes: Size | None = Field(default=None, description="Memory locked into RAM.")
    cpu_s: Duration | None = Field(default=None, description="CPU time, in whole seconds; then SIGXCPU.")
    sigpending: int | None = Field(default=None, ge=0, le=1 << 22, description="Queued signals of its user.")
    msgqueue_bytes: Size | None = Field(default=None, description="POSIX message queues of its user.")

    def numbers(self) -> dict[str, int]:
        """By the kernel's names, in its units."""
        values = ((field.alias or name, getattr(self, name)) for name, field in type(self).model_fields.items())
        return {
            alias: max(1, round(value)) if alias == "cpu" else value for alias, value in values if value is not None
        }


class Sandbox(Model):
    """What a process can gain and touch."""

    sparse: ClassVar[bool] = True

    no_new_privileges: bool = Field(default=False, description="No setuid program or file capability gives it rights.")
    read_write_paths: list[str] | None = Field(
        default=None,
        max_length=1000,
        description="Given: it can write below these, to its output and to devices like /dev/null; the rest is "
        "read-only, by Landlock (Linux 5.13). Implies noNewPrivileges.",
    )
    private_tmp: bool = Field(
        default=False,
        description="An empty /tmp and /var/tmp of its own, gone with it; where the daemon is not root, a directory of its own "
        "that TMPDIR names (tasks: root only).",
    )


def findings(template: Template) -> Iterator[tuple[str, tuple[str | int, ...], str, str]]:
    """What is wrong: rule, field below the template, message, help."""
    memory = template.resources.limits.memory_bytes
    if memory is not None and memory < LEAST_MEMORY_BYTES:
        message = f"{format_size(memory)} of memory is not enough for any program"
        yield "range", ("resources", "limits", "memory"), message, "write at least 1Mi"
    for index, path in enumerate(template.sandbox.read_write_paths or ()):
        if not path.startswith("/") or "\0" in path:
            field = ("sandbox", "readWritePaths", index)
            yield "sandbox", field, f"expected an absolute path, got {shown(path)}", "begin it with /"
        elif template.sandbox.private_tmp and (shared := _hidden(path)):
            field = ("sandbox", "readWritePaths", index)
            message = f"with privateTmp its {shared} is empty and its own: there is no {shown(path)}"
            yield "sandbox", field, message, "remove it, for its own can be written anyway; or choose a path elsewhere"


def _hidden(path: str) -> str:
    """The shared directory that a private one takes the place of, if the path lies below it; itself it may be named."""
    steps = [step for step in path.split("/") if step not in ("", ".")]
    return next((f"/{'/'.join(top)}" for top in (["tmp"], ["var", "tmp"]) if steps[: len(top)] == top != steps), "")
