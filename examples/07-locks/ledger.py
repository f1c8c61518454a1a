"""Writes a line a second to a file that lets nobody write whose token is older than the newest it has seen.

The check and the write stand under one flock, at the file itself: there, and not in the lock, it is decided who is late.
"""

import fcntl
import os
import sys
import time


def write(path: str, token: int, text: str) -> None:
    with open(path, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        newest = max((int(line.split()[0]) for line in file), default=0)
        if token < newest:
            sys.exit(f"token {token} is too old: {newest} has written here")
        file.write(f"{token} {text}\n")


if __name__ == "__main__":
    while True:
        write(sys.argv[1], int(os.environ["RECONCILER_LOCK_TOKEN"]), os.environ.get("RECONCILER_WORKER", "by hand"))
        time.sleep(1)
