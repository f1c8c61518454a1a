"""A real YAML language server, installed once into a cache of its own, spoken to over its standard streams.

    python tests/schemas/language_server.py DIRECTORY     installs it there

JSON-RPC in the framing of the Language Server Protocol; requests of the server (its configuration) get empty answers.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

VERSION = "2.0.0"


def cache() -> Path:
    """Where it is kept between runs."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root, "reconciler-tests", f"yaml-language-server-{VERSION}")


def install(directory: Path) -> str:
    """Installs it unless it is there. What stands in the way, or nothing."""
    if (directory / "installed").exists():
        return ""
    if shutil.which("npm") is None or shutil.which("node") is None:
        return "npm and node are needed for a YAML language server"
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the tests run side by side
        return "" if (directory / "installed").exists() else _install(directory)


def _install(directory: Path) -> str:
    words = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(directory)]
    try:
        done = subprocess.run(
            [*words, f"yaml-language-server@{VERSION}"], capture_output=True, text=True, timeout=600, check=False
        )
    except subprocess.TimeoutExpired:
        return "npm did not install yaml-language-server within 600 s"
    if done.returncode:
        return f"npm cannot install yaml-language-server: {done.stderr.strip().splitlines()[-1:]}"
    (directory / "installed").touch()
    return ""


class LanguageServer:
    """One running server."""

    def __init__(self, directory: Path, root: Path) -> None:
        script = directory / "node_modules" / "yaml-language-server" / "bin" / "yaml-language-server"
        self._process = subprocess.Popen(
            ["node", str(script), "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            cwd=root,
        )  # fmt: skip
        self._buffer = b""
        self._count = 0
        self._said: dict[str, list[dict[str, Any]]] = {}
        self.request("initialize", processId=os.getpid(), rootUri=root.as_uri(), capabilities={})
        self._send("initialized", {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def problems(self, file: Path) -> list[tuple[int, str]]:
        """Opens a file: lines, from 1, and messages of what the server has to say of it."""
        document = {"uri": file.as_uri(), "languageId": "yaml", "version": 1, "text": file.read_text()}
        self._send("textDocument/didOpen", {"textDocument": document})
        deadline = time.monotonic() + 300
        while file.as_uri() not in self._said:
            self._take(deadline)
        return [(one["range"]["start"]["line"] + 1, one["message"]) for one in self._said[file.as_uri()]]

    def ask(self, what: str, file: Path, line: int, column: int) -> Any:
        """A request about a place of an open file, both from 1."""
        place = {"line": line - 1, "character": column - 1}
        return self.request(f"textDocument/{what}", textDocument={"uri": file.as_uri()}, position=place)

    def request(self, method: str, **params: Any) -> Any:
        """Sends and waits for the answer."""
        self._count += 1
        self._send(method, params, id=self._count)
        deadline = time.monotonic() + 300
        while True:
            message = self._take(deadline)
            if message.get("id") == self._count and "method" not in message:
                return message.get("result")

    def _send(self, method: str, params: Any, **more: Any) -> None:
        self._write({"jsonrpc": "2.0", "method": method, "params": params, **more})

    def _write(self, message: dict[str, Any]) -> None:
        body = json.dumps(message).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._process.stdin.flush()

    def _take(self, deadline: float) -> dict[str, Any]:
        head = self._read_until(b"\r\n\r\n", deadline)
        size = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-len"))
        while len(self._buffer) < size:
            self._fill(deadline)
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        message: dict[str, Any] = json.loads(body)
        if message.get("method") == "textDocument/publishDiagnostics":
            self._said[message["params"]["uri"]] = message["params"]["diagnostics"]
        elif "method" in message and "id" in message:
            asked = message["params"].get("items", []) if isinstance(message.get("params"), dict) else []
            self._write({"jsonrpc": "2.0", "id": message["id"], "result": [{} for _ in asked] or None})
        return message

    def _read_until(self, mark: bytes, deadline: float) -> bytes:
        while mark not in self._buffer:
            self._fill(deadline)
        head, _, self._buffer = self._buffer.partition(mark)
        return head

    def _fill(self, deadline: float) -> None:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], max(0, deadline - time.monotonic()))
        part = os.read(self._process.stdout.fileno(), 65536) if ready else b""
        if not part:
            raise TimeoutError("the language server says nothing more")
        self._buffer += part


if __name__ == "__main__":
    sys.exit(install(Path(sys.argv[1])))
