"""What a Pool's fields must be to each other. Most of it is tested through manifests, in tests/loading."""

from __future__ import annotations

import pytest

from reconciler.resources.check import LONGEST_POOL_NAME, address, findings
from reconciler.resources.meta import Metadata
from reconciler.resources.pool import Pool, PoolSpec, Template


def pool(name: str = "web", **template: object) -> Pool:
    spec = PoolSpec(template=Template.model_validate({"command": ["sleep", "inf"], **template}))
    return Pool(metadata=Metadata(name=name), spec=spec)


def rules(of: Pool) -> list[str]:
    return [finding.rule for finding in findings(of)]


def test_a_sound_pool_has_no_findings() -> None:
    assert rules(pool()) == []


def test_the_longest_name_of_a_pool_leaves_room_for_its_workers() -> None:
    assert rules(pool("a" * LONGEST_POOL_NAME)) == []
    assert rules(pool("a" * (LONGEST_POOL_NAME + 1))) == ["name"]


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ("127.0.0.1:80", "127.0.0.1", 80), ("localhost:80", "127.0.0.1", 80), (":80", "0.0.0.0", 80),
        ("*:80", "0.0.0.0", 80), ("[::1]:65535", "::1", 65535), ("[0:0::1]:1", "::1", 1), ("/run/a.sock", "/run/a.sock", 0),
    ],
)  # fmt: skip
def test_an_address_is_a_host_and_a_port_or_a_path(listen: str, host: str, port: int) -> None:
    assert address(listen) == (host, port)


@pytest.mark.parametrize(
    "listen", ["", "80", "a:80", "::1:80", "127.0.0.1:", "127.0.0.1:http", "run/a.sock", "1.2.3.4:70000"]
)
def test_anything_else_is_no_address(listen: str) -> None:
    with pytest.raises(ValueError):
        address(listen)


@pytest.mark.parametrize(
    ("program", "working_dir", "fine"),
    [("sleep", None, True), ("/bin/sleep", None, True), ("$(HOME)/run", None, True), ("bin/run", "/srv", True), ("bin/run", None, False), ("./run", None, False)],
)  # fmt: skip
def test_a_relative_program_needs_a_directory(program: str, working_dir: str | None, fine: bool) -> None:
    fields = {"workingDir": working_dir} if working_dir else {}

    assert rules(pool(command=[program], **fields)) == ([] if fine else ["working-dir"])
