"""What a process finds in its environment: written here, or only named here and read at each start.

    {name: LEVEL, value: info}                       its value
    {name: DATABASE_URL, valueFrom: {file: /etc/x}}  a secret: only the reference is ever stored or shown
    envFrom: [{file: /etc/shop/web.env}]             the same, a file of NAME=value lines

Every value that comes from elsewhere is a secret, and so is one that is made of it.
"""

from __future__ import annotations

from pydantic import Field

from reconciler.resources.meta import Model

MAX_ARGUMENT_BYTES = 131_071
"""The kernel's limit for one argument or one variable."""

_PATH_PATTERN = r"^/[^\x00]*$"
_NAME_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]*$"


class ValueFrom(Model):
    """Where a secret is read at each start; exactly one."""

    file: str | None = Field(
        default=None, pattern=_PATH_PATTERN, max_length=4095, description="A file; the newline at its end is left out."
    )
    env: str | None = Field(
        default=None, pattern=_NAME_PATTERN, max_length=255, description="A variable of the environment of `up`."
    )
    credential: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.-]{1,255}$",
        description="A credential that systemd has handed to the daemon (LoadCredential=).",
    )

    @property
    def given(self) -> list[str]:
        """Which are given."""
        return [name for name in ("file", "env", "credential") if getattr(self, name) is not None]


class EnvVar(Model):
    """One variable of the process's environment."""

    name: str = Field(pattern=_NAME_PATTERN, max_length=255, description="Its name.")
    value: str | None = Field(
        default=None,
        max_length=MAX_ARGUMENT_BYTES,
        description="Its value; $(NAME) is another variable, $$ a dollar.",
    )
    value_from: ValueFrom | None = Field(default=None, description="A secret: where its value is read at each start.")


class EnvFrom(Model):
    """A file of NAME=value lines; all of them are secrets."""

    file: str = Field(pattern=_PATH_PATTERN, max_length=4095, description="Its path; # begins a comment.")
