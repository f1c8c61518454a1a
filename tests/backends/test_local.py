"""The socket to the launcher, and what is asked of this machine."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from reconciler.backends.local import LocalHost, SocketLink
from reconciler.launcher import protocol


def test_messages_larger_than_the_socket_takes_arrive_whole_and_in_order() -> None:
    async def tell() -> None:
        mine, theirs = socket.socketpair()
        link = SocketLink(mine, lambda messages: None, lambda why: None)
        big = ["spawn", [["x" * 1000] * 1000] * 3]
        link.send([["first"]])
        link.send([big])
        link.send([["last"]])
        decoder = protocol.Decoder()
        theirs.setblocking(False)
        got: list[object] = []
        async with asyncio.timeout(60):
            while len(got) < 3:
                got += decoder.feed(await asyncio.get_running_loop().sock_recv(theirs, 1 << 20))
        assert got == [["first"], big, ["last"]]
        link.close()
        theirs.close()

    asyncio.run(tell())


@pytest.mark.parametrize(("data", "word"), [(b"", "gone"), (b"\xff\xff\xff\xff", "frame"), (b"\x02\0\0\0{}", "array")])
def test_fault_L5_the_end_of_the_launcher_or_nonsense_from_it_is_said_once(data: bytes, word: str) -> None:
    async def tell() -> None:
        mine, theirs = socket.socketpair()
        said: list[str] = []
        link = SocketLink(mine, lambda messages: None, said.append)
        theirs.sendall(data) if data else theirs.close()
        async with asyncio.timeout(60):
            while not said:
                await asyncio.sleep(0.005)
        link.send([["late"]])  # harmless
        assert len(said) == 1 and word in said[0]
        theirs.close()

    asyncio.run(tell())


def test_a_link_that_rests_hears_what_has_come_when_it_is_told_to_or_looks() -> None:
    async def tell() -> None:
        mine, theirs = socket.socketpair()
        heard: list[object] = []
        link = SocketLink(mine, heard.extend, heard.append)
        link.rest(1000.0)
        theirs.sendall(protocol.frame([["one"]]))
        link.listen()
        assert heard == [["one"]]

        theirs.sendall(protocol.frame([["two"]]))
        async with asyncio.timeout(30):
            while len(heard) < 2:
                await asyncio.sleep(0)

        link.rest(0.0)
        theirs.sendall(protocol.frame([["three"]]))
        theirs.close()
        async with asyncio.timeout(30):
            while len(heard) < 4:
                await asyncio.sleep(0)
        assert heard == [["one"], ["two"], ["three"], "the launcher is gone"]

    asyncio.run(tell())


def test_a_link_that_rests_hears_of_the_end_of_the_launcher() -> None:
    async def tell() -> None:
        mine, theirs = socket.socketpair()
        said: list[str] = []
        link = SocketLink(mine, lambda messages: None, said.append)
        link.rest(1000.0)
        theirs.close()
        async with asyncio.timeout(30):
            while not said:
                await asyncio.sleep(0)
        link.rest(1000.0)
        link.listen()
        assert said == ["the launcher is gone"]

    asyncio.run(tell())


def test_accounts_are_those_of_the_machine(tmp_path: Path) -> None:
    host = LocalHost(str(tmp_path))
    me = host.account(None)
    assert (me.uid, me.name) == (None, pwd.getpwuid(os.getuid()).pw_name)
    with pytest.raises(LookupError):
        host.account("nobody-of-this-name")
    if os.getuid() == 0:
        nobody = host.account("nobody")
        assert nobody.uid == pwd.getpwnam("nobody").pw_uid and nobody.groups is not None


def test_only_files_and_sockets_are_removed_and_links_are_not_followed(tmp_path: Path) -> None:
    keep = tmp_path / "keep"
    keep.write_text("x")
    link, directory, sock = tmp_path / "link", tmp_path / "directory", tmp_path / "sock"
    link.symlink_to(keep)
    directory.mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(sock))
    problems = LocalHost(str(tmp_path)).remove_files([str(link), str(directory), str(sock), str(tmp_path / "none")])
    assert problems == [f"{directory} is a directory and stays"]
    assert keep.exists() and directory.exists() and not link.is_symlink() and not sock.exists()


def test_a_free_port_can_be_bound(tmp_path: Path) -> None:
    def bound() -> bool:
        with socket.socket() as server, suppress(OSError):
            server.bind(("127.0.0.1", LocalHost(str(tmp_path)).free_port()))
            return True
        return False

    assert any(bound() for _ in range(10)), "somebody on this machine was faster each time"
