"""How a file becomes a resource: read, parse, validate, apply.

    files -> parse(P) -> validate(P) -> apply        every error of every file at once, at file:line:column

The same path runs in CI (`validate`) and in the daemon. Never here: processes, HTTP, what happens to an object later.
"""
