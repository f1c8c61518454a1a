"""What a failed start means to a person: the step, the kernel's word, and how to mend it.

    exec, ENOENT    the file is missing, or the interpreter its first line names (a carriage return there hides it)
    chdir, ENOENT   the working directory is missing: the same errno, another mend

`BadWorkdir` stands in front of what concerns the working directory, because the errno alone cannot tell.
"""

from __future__ import annotations

from errno import E2BIG, EACCES, EAGAIN, EMFILE, ENFILE, ENOENT, ENOEXEC, ENOMEM, ENOSPC, ENOTDIR, EPERM, errorcode


def explain(step: str, errno: int, text: str, command: str, working_dir: str) -> str:
    """One line for `lastExit.message`: what failed in which step, and the mend where one is known.

    `text` is the system's word for the errno; `command` is argv[0].
    """
    what = f"{step}: {_subject(step, command, working_dir)}{text or 'failed'} ({errorcode.get(errno, str(errno))})"
    hint = _hint(step, errno, command, working_dir)
    return f"{what}; {hint}" if hint else what


def _subject(step: str, command: str, working_dir: str) -> str:
    if step == "chdir":
        return f"BadWorkdir: {working_dir}: "
    return f"{command}: " if step in ("resolve", "exec") and command else ""


def _hint(step: str, errno: int, command: str, working_dir: str) -> str:
    if step == "chdir":
        if errno in (ENOENT, ENOTDIR):
            return f"create the directory {working_dir} or change template.workingDir"
        return "the account it runs as must be able to enter the directory" if errno == EACCES else ""
    if errno in (EAGAIN, ENOMEM, EMFILE, ENFILE):
        return "the host or this account has no more processes, memory or descriptors to give"
    if errno == ENOSPC:
        return "the disk is full"
    if step == "resolve" and errno == ENOENT:
        return f"no {command} in PATH: install it or write its whole path"
    if step == "exec":
        return _EXEC_HINTS.get(errno, "")
    if step == "secret":
        return "what runs stays up; a start is tried again"
    if step == "identity":
        return "only root can start processes of another account" if errno == EPERM else ""
    return _LIMIT_HINTS.get(step, "")


_LIMIT_HINTS = {
    "cgroup": "`reconciler doctor` says what can be limited here; enforcement: BestEffort starts without it",
    "sandbox": "see template.sandbox; `reconciler doctor` says what this kernel has",
    "nice": "a nice below that of the daemon needs root",
    "rlimits": "only root can raise a limit above that of the daemon",
}

_EXEC_HINTS = {
    ENOENT: "the file is missing, or the interpreter in its first line (#!) is; does that line end in CRLF?",
    ENOTDIR: "a part of its path is not a directory",
    EACCES: "it must be a file with the x bit (chmod +x), on a file system not mounted noexec, below directories that its account may enter",
    ENOEXEC: "it is empty, built for another machine, or a script whose first line does not begin with #!",
    E2BIG: "arguments and environment together are too long for the kernel",
}
