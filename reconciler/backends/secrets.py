"""Reads what manifests only name: secrets in files, in the environment of `up`, from systemd's credentials.

Contract: read at each start, by the daemon's user; never kept, never part of an error's text.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping

from reconciler.resources.environment import MAX_ARGUMENT_BYTES, ValueFrom

MAX_FILE_BYTES = 1 << 20

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")


class SecretError(Exception):
    """A secret that cannot be had: `text` says which and why, never what it is."""

    def __init__(self, errno: int, text: str) -> None:
        super().__init__(text)
        self.errno, self.text = errno, text


def value(reference: ValueFrom, environ: Mapping[str, str]) -> str:
    """The secret that is named. Raises SecretError."""
    if reference.file is not None:
        return _clean(_read(reference.file).removesuffix("\n").removesuffix("\r"), reference.file)
    if reference.credential is not None:
        directory = environ.get("CREDENTIALS_DIRECTORY")
        if directory is None:
            raise SecretError(
                0, f"credential {reference.credential}: the daemon has none; they come with a systemd unit"
            )
        path = os.path.join(directory, os.path.basename(reference.credential))
        return _clean(_read(path).removesuffix("\n"), path)
    name = reference.env or ""
    if name not in environ:
        raise SecretError(0, f"the environment of `up` has no {name}")
    return environ[name]


def file_of_variables(path: str) -> dict[str, str]:
    """A file of NAME=value lines; quotes around a value are taken off, # begins a comment line. Raises SecretError."""
    found: dict[str, str] = {}
    for number, line in enumerate(_read(path).splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        parts = _LINE.fullmatch(text)
        if parts is None:
            raise SecretError(0, f"{path}:{number} is no NAME=value")
        name, word = parts[1], parts[2].strip()
        if len(word) > 1 and word[0] == word[-1] and word[0] in "'\"":
            word = word[1:-1]
        found[name] = _clean(word, f"{path}:{number}")
    return found


def _read(path: str) -> str:
    """A regular file of moderate size, as text; a FIFO or a device is not waited for."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SecretError(error.errno or errno.EIO, f"{path}: {error.strerror}") from None
    try:
        facts = os.fstat(fd)
        if not stat.S_ISREG(facts.st_mode):
            raise SecretError(errno.EINVAL, f"{path} is no regular file")
        content = os.read(fd, MAX_FILE_BYTES + 1)
    except OSError as error:
        raise SecretError(error.errno or errno.EIO, f"{path}: {error.strerror}") from None
    finally:
        os.close(fd)
    if len(content) > MAX_FILE_BYTES:
        raise SecretError(errno.EFBIG, f"{path} has more than {MAX_FILE_BYTES} bytes")
    return content.decode("utf-8", "surrogateescape")


def _clean(text: str, place: str) -> str:
    if "\0" in text:
        raise SecretError(errno.EINVAL, f"{place} holds a NUL byte, which no variable can")
    if len(os.fsencode(text)) > MAX_ARGUMENT_BYTES:
        raise SecretError(
            errno.E2BIG, f"{place} has more than the {MAX_ARGUMENT_BYTES} bytes that one variable can hold"
        )
    return text
