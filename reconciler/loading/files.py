"""Manifests as they are on disk at one moment: every .yaml and .yml below a root, with a digest of all of it.

    manifests/
      web.yaml            read
      batch/jobs.yml      read
      .draft.yaml  x~     not looked at: hidden files, editors' leftovers, other suffixes
      link.yaml -> ..     read, if it ends at a regular file inside the root

Whatever lies there, a scan ends: nothing but regular files is opened for reading, and none beyond its limit. What could
not be read is a Problem of its own, never an absence: a source that cannot be read is not an empty one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Sequence
from typing import NamedTuple

from reconciler.loading.parse import MAX_BYTES, SourceFile
from reconciler.loading.problem import START, Problem, Severity, has_errors, in_order

SUFFIXES = (".yaml", ".yml")
_LEFTOVERS = ("~", ".swp", ".tmp")


class Scan(NamedTuple):
    """What was found, by path. The digest changes whenever a path, a content or a problem does."""

    files: tuple[SourceFile, ...]
    problems: tuple[Problem, ...]
    digest: str

    @property
    def complete(self) -> bool:
        """Whether everything could be read."""
        return not has_errors(self.problems)


class _Unread(Exception):
    """A file that is not read, and why."""

    def __init__(self, rule: str, message: str, help: str = "") -> None:
        super().__init__(message)
        self.rule, self.message, self.help = rule, message, help


def scan(root: str) -> Scan:
    """Every manifest of a directory tree, or the one file that `root` is."""
    files: list[SourceFile] = []
    problems: list[Problem] = []
    try:
        found = os.stat(root)
    except (OSError, ValueError) as error:
        problems.append(_problem(root, "source", _reason(error), "give a directory with manifests, or one manifest"))
    else:
        if stat.S_ISDIR(found.st_mode):
            _walk(root, files, problems)
        else:
            _take(root, os.path.realpath(root), files, problems)
    files.sort()
    return Scan(tuple(files), in_order(problems), digest(files, root, problems))


def digest(files: Sequence[SourceFile], root: str = "", problems: Sequence[Problem] = ()) -> str:
    """Forty hexadecimal digits of all paths (below the root) and contents."""
    sha = hashlib.sha256()
    for file in files:
        _add(sha, file.path.removeprefix(root).encode(errors="surrogateescape"), file.data)
    for problem in problems:
        _add(sha, problem.file.removeprefix(root).encode(errors="surrogateescape"), problem.message.encode())
    return sha.hexdigest()[:40]


def _add(sha: hashlib._Hash, path: bytes, content: bytes) -> None:
    sha.update(b"%d %d " % (len(path), len(content)))
    sha.update(path)
    sha.update(content)


def _walk(root: str, files: list[SourceFile], problems: list[Problem]) -> None:
    real_root = os.path.realpath(root)
    pending = [root]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(directory) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            problems.append(_problem(directory, "unreadable", _reason(error)))
            continue
        for entry in listed:
            if entry.name.startswith(".") or entry.name.endswith(_LEFTOVERS):
                continue
            if entry.is_symlink():
                _take_link(entry, real_root, files, problems)
            elif entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            elif entry.name.endswith(SUFFIXES):
                _take(entry.path, entry.path, files, problems)


def _take_link(entry: os.DirEntry[str], real_root: str, files: list[SourceFile], problems: list[Problem]) -> None:
    """Follows a symlink to a regular file inside the root."""
    try:
        target = os.path.realpath(entry.path, strict=True)
        is_dir = os.path.isdir(target)
    except OSError as error:
        if entry.name.endswith(SUFFIXES):
            problems.append(_problem(entry.path, "symlink", _reason(error), "mend or remove the link"))
        return
    if is_dir:
        message = "a link to a directory is not followed"
        problems.append(_problem(entry.path, "symlink", message, "give the directory itself", "warning"))
    elif entry.name.endswith(SUFFIXES):
        if os.path.commonpath((real_root, target)) != real_root:
            message = "the link leaves the source"
            problems.append(_problem(entry.path, "symlink", message, "copy the file into it"))
        else:
            _take(entry.path, target, files, problems)


def _take(shown: str, path: str, files: list[SourceFile], problems: list[Problem]) -> None:
    try:
        shown.encode()
    except UnicodeEncodeError:
        problems.append(_problem(shown, "encoding", "the file's name is not UTF-8", "rename it"))
        return
    try:
        files.append(SourceFile(shown, _read(path)))
    except _Unread as unread:
        problems.append(_problem(shown, unread.rule, unread.message, unread.help))
    except OSError as error:
        problems.append(_problem(shown, "unreadable", _reason(error)))


def _read(path: str) -> bytes:
    """The content of a regular file. Raises _Unread and OSError; never waits for a writer."""
    _require_regular(os.lstat(path).st_mode)  # before opening, for opening a device may do something
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        _require_regular(found.st_mode)
        parts: list[bytes] = []
        left = MAX_BYTES + 1
        if found.st_size < left:
            while left > 0 and (part := os.read(fd, left)):
                parts.append(part)
                left -= len(part)
    finally:
        os.close(fd)
    size = max(found.st_size, MAX_BYTES + 1 - left)
    if size > MAX_BYTES:
        raise _Unread(
            "limit", f"the file has {size} bytes; at most {MAX_BYTES} are read", "split it into several files"
        )
    return b"".join(parts)


def _require_regular(mode: int) -> None:
    if stat.S_ISREG(mode):
        return
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a directory"}
    kind = kinds.get(stat.S_IFMT(mode), "a device")
    raise _Unread("not-a-file", f"{kind} is not read as a manifest", "remove it, or give it another suffix")


def _problem(path: str, rule: str, message: str, help: str = "", severity: Severity = "error") -> Problem:
    line, column, end_column = START
    return Problem(path, line, column, end_column, rule, message, help=help, severity=severity)


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        name = errno.errorcode.get(error.errno, str(error.errno))
        return f"{os.strerror(error.errno).lower()} ({name})"
    return str(error)
