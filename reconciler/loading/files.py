"""Manifests as they are on disk at one moment: every .yaml and .yml below a root (and .j2), with a digest of all of it.

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
import fcntl
import hashlib
import os
import signal
import stat
from collections.abc import Sequence
from typing import NamedTuple

from reconciler.loading.parse import MAX_BYTES, SourceFile
from reconciler.loading.problem import START, Problem, Severity, has_errors, in_order
from reconciler.loading.variant import AS_WRITTEN, Variant

SUFFIXES = (".yaml", ".yml", ".yaml.j2", ".yml.j2")
MAX_SCAN_BYTES = 64 << 20
"""Of all files together."""
_LEFTOVERS = ("~", ".swp", ".tmp")


class Scan(NamedTuple):
    """What was found, by path. The digest changes whenever a path, a content or a problem does."""

    files: tuple[SourceFile, ...]
    problems: tuple[Problem, ...]
    digest: str
    written: tuple[str, ...] = ()
    """Files that somebody has open for writing; only `scan_still` looks for them."""
    changed_ns: int = 0
    """When an inode of them changed last, nanoseconds since 1970."""
    variant: Variant = AS_WRITTEN
    """What is to be made of them; the digest knows it, too."""

    @property
    def complete(self) -> bool:
        """Whether everything could be read."""
        return not has_errors(self.problems)


class _Unread(Exception):
    """A file that is not read, and why."""

    def __init__(self, rule: str, message: str, help: str = "") -> None:
        super().__init__(message)
        self.rule, self.message, self.help = rule, message, help


class _Found:
    """What a scan has come upon so far."""

    def __init__(self, leases: bool) -> None:
        self.real_root = ""
        self.files: list[SourceFile] = []
        self.problems: list[Problem] = []
        self.written: list[str] = []
        self.changed_ns = 0
        self.left_bytes = MAX_SCAN_BYTES
        self.leases = leases


def scan(root: str) -> Scan:
    """Every manifest of a directory tree, or the one file that `root` is."""
    return _scan(root, leases=False)


def scan_still(root: str) -> Scan:
    """As `scan`, and says which files are being written, as far as the kernel tells us: by a lease on each."""
    return _scan(root, leases=True)


def _scan(root: str, leases: bool) -> Scan:
    found = _Found(leases)
    try:
        mode = os.stat(root).st_mode
        found.real_root = os.path.realpath(root)
    except (OSError, ValueError) as error:
        help = "give a directory with manifests, or one manifest"
        found.problems.append(_problem(root, "source", _reason(error), help))
    else:
        if stat.S_ISDIR(mode):
            _walk(root, found)
        else:
            _take(root, os.path.realpath(root), found)
    files = sorted(found.files)
    whole = digest(files, root, found.problems)
    return Scan(tuple(files), in_order(found.problems), whole, tuple(found.written), found.changed_ns)


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


def _walk(root: str, found: _Found) -> None:
    pending = [root]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(directory) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            found.problems.append(_problem(directory, "unreadable", _reason(error)))
            continue
        for entry in listed:
            if entry.name.startswith(".") or entry.name.endswith(_LEFTOVERS):
                continue
            if entry.is_symlink():
                _take_link(entry, found)
            elif entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            elif entry.name.endswith(SUFFIXES):
                _take(entry.path, entry.path, found)


def _take_link(entry: os.DirEntry[str], found: _Found) -> None:
    """Follows a symlink to a regular file inside the root."""
    try:
        target = os.path.realpath(entry.path, strict=True)
        is_dir = os.path.isdir(target)
    except OSError as error:
        if entry.name.endswith(SUFFIXES):
            found.problems.append(_problem(entry.path, "symlink", _reason(error), "mend or remove the link"))
        return
    if is_dir:
        message = "a link to a directory is not followed"
        found.problems.append(_problem(entry.path, "symlink", message, "give the directory itself", "warning"))
    elif entry.name.endswith(SUFFIXES):
        if _is_below(target, found.real_root):
            _take(entry.path, target, found)
        else:
            message = "the link leaves the source"
            found.problems.append(_problem(entry.path, "symlink", message, "copy the file into it"))


def _take(shown: str, path: str, found: _Found) -> None:
    try:
        shown.encode()
    except UnicodeEncodeError:
        found.problems.append(_problem(shown, "encoding", "the file's name is not UTF-8", "rename it"))
        return
    try:
        found.files.append(SourceFile(shown, _read(shown, path, found)))
    except _Unread as unread:
        found.problems.append(_problem(shown, unread.rule, unread.message, unread.help))
    except OSError as error:
        found.problems.append(_problem(shown, "unreadable", _reason(error)))


def _read(shown: str, path: str, scan: _Found) -> bytes:
    """The content of a regular file. Raises _Unread and OSError; never waits for a writer."""
    _require_regular(os.lstat(path).st_mode)  # before opening, for opening a device may do something
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(fd)
        _require_regular(found.st_mode)
        # of what was opened, not of its name: a directory on the way may have become a link since it was looked at
        if not _is_below(os.readlink(f"/proc/self/fd/{fd}"), scan.real_root):
            raise _Unread("symlink", "the link leaves the source", "copy the file into it")
        if scan.leases and _is_written(fd):
            scan.written.append(shown)
        parts: list[bytes] = []
        left = MAX_BYTES + 1
        if found.st_size < left:
            while left > 0 and (part := os.read(fd, left)):
                parts.append(part)
                left -= len(part)
                if MAX_BYTES + 1 - left == found.st_size:
                    break  # what has been added since is for the next scan
    finally:
        os.close(fd)
    size = max(found.st_size, MAX_BYTES + 1 - left)
    if size > MAX_BYTES:
        raise _Unread(
            "limit", f"the file has {size} bytes; at most {MAX_BYTES} are read", "split it into several files"
        )
    scan.left_bytes -= size
    if scan.left_bytes < 0:
        raise _Unread("limit", f"more than {MAX_SCAN_BYTES} bytes in all", "give a directory of manifests only")
    scan.changed_ns = max(scan.changed_ns, found.st_ctime_ns)
    return b"".join(parts)


def _is_below(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _is_written(fd: int) -> bool:
    """Whether somebody has it open for writing. A lease is had only when nobody has, and given back at once."""
    try:
        # who opens it for writing in this very moment makes the kernel send this signal, which does nothing, not SIGIO
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN  # others: not our file, or a file system without leases
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


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
