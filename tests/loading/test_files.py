"""Trees of manifests: whatever lies in them, a scan ends and says what it could not read."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.loading.files import Scan, scan, scan_still
from reconciler.loading.parse import MAX_BYTES


def found(result: Scan, root: Path) -> dict[str, bytes]:
    return {os.path.relpath(file.path, root): file.data for file in result.files}


def rules(result: Scan) -> list[str]:
    return [problem.rule for problem in result.problems]


def write(path: Path, text: str = "a: 1\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_every_yaml_below_the_root_is_read_in_order_and_nothing_else(tmp_path: Path) -> None:
    for name in ("b.yaml", "a.yml", "sub/deep/c.yaml", ".hidden.yaml", ".git/d.yaml", "e.yaml~", "f.yaml.swp", "g.tmp"):
        write(tmp_path / name, name)
    write(tmp_path / "README.md")
    write(tmp_path / "4913")

    result = scan(str(tmp_path))

    assert list(found(result, tmp_path)) == ["a.yml", "b.yaml", "sub/deep/c.yaml"]
    assert found(result, tmp_path)["b.yaml"] == b"b.yaml"
    assert result.complete and result.problems == ()


def test_one_file_may_be_the_root_whatever_its_suffix(tmp_path: Path) -> None:
    assert found(scan(str(write(tmp_path / "pool.txt"))), tmp_path) == {"pool.txt": b"a: 1\n"}


@pytest.mark.parametrize("missing", ["", "no/such", "nul\0"])
def test_a_missing_root_is_an_error_and_never_empty(missing: str) -> None:
    result = scan(missing)

    assert rules(result) == ["source"]
    assert not result.complete


def test_the_digest_depends_on_paths_and_contents_only(tmp_path: Path) -> None:
    file = write(tmp_path / "one" / "a.yaml")
    before = scan(str(tmp_path / "one")).digest
    os.utime(file, (0, 0))
    assert scan(str(tmp_path / "one")).digest == before

    stamp = os.stat(file)
    file.write_text("a: 2\n")  # of the same size, and with the same time
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    changed = scan(str(tmp_path / "one")).digest
    assert changed != before

    (tmp_path / "one").rename(tmp_path / "two")
    assert scan(str(tmp_path / "two")).digest == changed
    file = tmp_path / "two" / "a.yaml"
    file.rename(file.with_name("b.yaml"))
    assert scan(str(tmp_path / "two")).digest != changed


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))


@pytest.mark.parametrize("make", [make_fifo, make_socket])
def test_fault_M9_what_is_no_regular_file_is_said_and_never_waited_for(
    tmp_path: Path, make: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    write(tmp_path / "a.yaml")
    make(tmp_path / "b.yaml")

    result = scan(str(tmp_path))

    assert list(found(result, tmp_path)) == ["a.yaml"]
    assert rules(result) == ["not-a-file"]
    assert rules(scan(str(tmp_path / "b.yaml"))) == ["not-a-file"]
    assert not result.complete


def test_fault_M9_a_device_is_never_opened() -> None:
    assert rules(scan("/dev/zero")) == ["not-a-file"]


def test_fault_M9_a_directory_with_a_manifests_name_is_walked(tmp_path: Path) -> None:
    write(tmp_path / "web.yaml" / "a.yaml")

    assert list(found(scan(str(tmp_path)), tmp_path)) == ["web.yaml/a.yaml"]


def test_fault_M9_a_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "sparse.yaml", "wb") as sparse:
        sparse.truncate(100 << 20)
    write(tmp_path / "more.yaml", "#" * (MAX_BYTES + 1))
    write(tmp_path / "most.yaml", "#" * MAX_BYTES)

    result = scan(str(tmp_path))

    assert list(found(result, tmp_path)) == ["most.yaml"]
    assert rules(result) == ["limit", "limit"]


def test_fault_M35_an_unreadable_file_or_directory_is_an_error() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as root:  # pytest's own is closed to others
        os.chmod(root, 0o755)
        write(Path(root) / "a.yaml").chmod(0)
        write(Path(root) / "closed" / "b.yaml")
        os.chmod(Path(root) / "closed", 0)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)  # permissions do not apply to root
        try:
            result = scan(root)
        finally:
            os.seteuid(was)
            os.chmod(Path(root) / "closed", 0o700)

    assert rules(result) == ["unreadable", "unreadable"]
    assert not result.complete


def test_a_link_to_a_file_inside_the_root_is_followed_as_kubernetes_makes_them(tmp_path: Path) -> None:
    write(tmp_path / "..2026" / "web.yaml", "new")
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "web.yaml").symlink_to("..data/web.yaml")

    result = scan(str(tmp_path))

    assert found(result, tmp_path) == {"web.yaml": b"new"}
    assert result.problems == ()


def test_a_link_that_leaves_the_root_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "outside.yaml")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.yaml").symlink_to("../outside.yaml")
    (tmp_path / "root" / "b.yaml").symlink_to("/dev/zero")

    result = scan(str(tmp_path / "root"))

    assert result.files == ()
    assert rules(result) == ["symlink", "symlink"]


def test_links_in_a_circle_or_to_nothing_are_said_and_the_others_are_read(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    (tmp_path / "one.yaml").symlink_to("two.yaml")
    (tmp_path / "two.yaml").symlink_to("one.yaml")
    (tmp_path / "nothing.yaml").symlink_to("gone.yaml")

    result = scan(str(tmp_path))

    assert list(found(result, tmp_path)) == ["a.yaml"]
    assert rules(result) == ["symlink"] * 4


def test_a_linked_directory_is_not_followed_and_said(tmp_path: Path) -> None:
    write(tmp_path / "real" / "a.yaml")
    (tmp_path / "again").symlink_to(".")

    result = scan(str(tmp_path))

    assert list(found(result, tmp_path)) == ["real/a.yaml"]
    assert [(problem.rule, problem.severity) for problem in result.problems] == [("symlink", "warning")]
    assert result.complete


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    write(tmp_path / "v1" / "a.yaml")
    (tmp_path / "current").symlink_to("v1")

    assert list(found(scan(str(tmp_path / "current")), tmp_path)) == ["current/a.yaml"]


def test_a_file_name_that_is_not_utf_8_is_an_error_that_can_be_shown(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.yaml", "wb") as file:
        file.write(b"a: 1\n")

    result = scan(str(tmp_path))

    assert rules(result) == ["encoding"]
    assert result.files == ()


def test_fault_M32_forty_links_in_a_row_are_followed_or_said_and_the_others_are_read(tmp_path: Path) -> None:
    write(tmp_path / "plain.yaml")
    write(tmp_path / "end.txt")
    for number in range(60):
        (tmp_path / f"l{number}.link").symlink_to(f"l{number - 1}.link" if number else "end.txt")
    (tmp_path / "short.yaml").symlink_to("l9.link")
    (tmp_path / "long.yaml").symlink_to("l59.link")

    result = scan(str(tmp_path))

    assert {"plain.yaml", "short.yaml"} <= set(found(result, tmp_path))
    assert len(result.files) + len(result.problems) == 3, "each is read, or said to be no file"


SWAP = """
import os, sys
name, outside = sys.argv[1:]
while True:
    os.rename(name, name + ".kept")
    os.symlink(outside, name)
    os.unlink(name)
    os.rename(name + ".kept", name)
"""


def test_a_directory_that_becomes_a_link_between_two_steps_of_a_scan_lets_nothing_in_from_outside(
    tmp_path: Path,
) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    write(outside / "secret.yaml", "password: x\n")
    write(root / "sub" / "secret.yaml", "a: 1\n")
    write(root / "link.txt")
    (root / "by-link.yaml").symlink_to("sub/secret.yaml")
    swapping = subprocess.Popen([sys.executable, "-c", SWAP, root / "sub", outside])
    try:
        outcomes = set()
        end_s = time.monotonic() + 20
        while (
            time.monotonic() < end_s and len(outcomes) < 3
        ):  # the directory, no directory, a link: it is being swapped
            result = scan(str(root))
            outcomes.add((len(result.files), *rules(result)))
        for _ in range(3000):
            assert b"password: x\n" not in found(scan(str(root)), root).values()
        assert swapping.poll() is None
    finally:
        swapping.kill()
        swapping.wait()


def test_a_tree_that_is_too_much_in_all_is_said_and_not_kept_in_memory(tmp_path: Path) -> None:
    for number in range(66):
        path = write(tmp_path / f"{number:02}.yaml", "")
        os.truncate(path, 1 << 20)

    result = scan(str(tmp_path))

    assert rules(result) == ["limit", "limit"]
    assert len(result.files) == 64


def test_fault_M2_a_file_that_is_open_for_writing_is_named_and_one_that_is_only_read_is_not(tmp_path: Path) -> None:
    write(tmp_path / "read.yaml")
    path = write(tmp_path / "written.yaml")
    with open(tmp_path / "read.yaml"), open(path, "a"):
        assert scan_still(str(tmp_path)).written == (str(path),)
    assert scan_still(str(tmp_path)).written == ()
    assert scan(str(tmp_path)).digest == scan_still(str(tmp_path)).digest


def test_looking_for_writers_harms_neither_them_nor_us(tmp_path: Path) -> None:
    path = write(tmp_path / "busy.yaml")
    stop = threading.Event()
    opened = []

    def save() -> None:
        while not stop.is_set():
            with open(path, "a"):
                opened.append(1)

    saving = threading.Thread(target=save)
    saving.start()
    try:
        for _ in range(2000):
            scan_still(str(tmp_path))
    finally:
        stop.set()
        saving.join()
    assert opened
