"""watchFiles: another content restarts workers or has them reload; anything else about a file does nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.real.house import House, eventually, worker

NOTES_HUPS = """
import os, signal, time
def note(number, frame):
    open(os.environ["LEDGER"] + "/hups", "a").write("x")
signal.signal(signal.SIGHUP, note)
open(os.environ["LEDGER"] + "/listens", "w").close()
while True:
    time.sleep(0.05)
"""


def replace(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    new.rename(path)


def known(house: House, pool: str, count: int = 1) -> dict[str, str]:
    return dict(eventually(lambda: len(found := house.pool(pool).get("watched", {})) == count and found))


def test_another_content_restarts_the_workers_one_after_another(house: House) -> None:
    for release in ("one", "two"):
        (house.path / release).mkdir()
        (house.path / release / "REVISION").write_text(release)
    current = house.path / "current"
    current.symlink_to("one")
    house.manifest("web", worker("ledger"), replicas=2, template={"watchFiles": [{"path": f"{current}/REVISION"}]})
    house.up()
    before = house.living("web", 2)
    seen = known(house, "web")

    os.utime(current / "REVISION", (1, 1))  # another time, the same content
    eventually(lambda: os.stat(current / "REVISION").st_mtime == 1)
    replace(house.path / "link", "")
    (house.path / "link").unlink()
    (house.path / "link").symlink_to("two")
    (house.path / "link").rename(current)
    eventually(lambda: house.pool("web")["watched"] != seen)
    eventually(lambda: not {*house.pids("web").values()} & {*before.values()})
    after = house.living("web", 2)
    eventually(lambda: house.pool("web")["updatedReplicas"] == 2)
    assert house.pool("web")["restartsAsked"] == 1

    house.down()  # what changes while nobody looks has changed too
    replace(house.path / "two" / "REVISION", "three")
    house.up()
    eventually(lambda: house.pool("web")["restartsAsked"] == 2)
    eventually(lambda: house.pool("web")["updatedReplicas"] == 2)
    assert not {*house.pids("web").values()} & {*after.values()}
    assert [event["message"] for event in house.events("pool/web") if event["reason"] == "FileChanged"]


def test_another_content_has_the_workers_reload(house: House) -> None:
    watched = house.path / "web.env"
    watched.write_text("A=1")
    template = {"watchFiles": [{"path": str(watched), "action": "Reload"}], "reload": {"signal": "SIGHUP"}}
    house.manifest("web", [sys.executable, "-c", NOTES_HUPS], template=template)
    house.up()
    before = house.ready("web", 1)
    seen = known(house, "web")
    eventually((house.path / "listens").exists)
    watched.unlink()  # says nothing: it is being replaced
    eventually(lambda: house.pool("web")["watched"] == seen)
    watched.write_text("A=2")
    eventually((house.path / "hups").exists)
    eventually(lambda: house.pool("web")["watched"] != seen)
    assert house.ready("web", 1) == before
    assert "A=" not in str(house.pool("web")["watched"])
