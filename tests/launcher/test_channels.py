"""The channel to a warm worker outlives controllers: nothing is fed twice, and no answer is lost."""

from __future__ import annotations

import sys
from typing import Any

ECHO = [
    sys.executable,
    "-uc",
    "import sys\nprint('ready')\nfor line in sys.stdin: print('did ' + line.strip()); print('noted', file=sys.stderr)",
]


def said(controller: Any) -> str:
    return "".join(row[3] for row in controller.rows("said") if row[3] is not None)


def upto(controller: Any) -> int:
    return int(controller.rows("said")[-1][2])


def warm(house: Any, argv: list[str] = ECHO, **fields: Any) -> tuple[Any, str]:
    controller = house.up()
    controller.say(["list"])
    return controller, controller.run("worker/w-0", argv, channel=True, **fields)


def test_what_is_fed_comes_to_stdin_and_whole_lines_of_stdout_come_back(house: Any) -> None:
    controller, instance = warm(house, log="w/w.log")

    controller.wait(lambda: said(controller) == "ready\n")
    controller.say(["feed", [[instance, 0, "", "one\ntwo\n"]]])

    controller.wait(lambda: said(controller) == "ready\ndid one\ndid two\n")
    assert upto(controller) == len(said(controller))
    log = house.state / "logs" / "w" / "w.log"
    controller.wait(lambda: log.read_text() == "noted\nnoted\n" or controller.round_trip())


def test_the_next_controller_hears_what_was_not_durable_and_the_note_of_the_one_before(house: Any) -> None:
    controller, instance = warm(house)
    controller.wait(lambda: said(controller) == "ready\n")
    controller.say(["feed", [[instance, upto(controller), "one is fed", "one\n"]]])
    controller.wait(lambda: "did one" in said(controller))
    controller.kill()

    second = house.controller()
    second.say(["list"])

    second.wait(lambda: second.of("children"))
    assert second.rows("channels") == [["worker/w-0", instance, "one is fed"]]
    assert said(second) == "did one\n"
    second.say(["feed", [[instance, upto(second), "", "two\n"]]])
    second.wait(lambda: said(second) == "did one\ndid two\n")


def test_what_a_worker_said_before_its_end_is_heard_until_its_end_is_durable(house: Any) -> None:
    controller, instance = warm(house, [sys.executable, "-c", "print('last words')"])
    controller.exit(instance)
    words = [message[0] for message in controller.heard]
    assert said(controller) == "last words\n" and words.index("said") < words.index("exited")
    controller.kill()

    second = house.controller()
    _, exits = second.listing()
    assert said(second) == "last words\n" and exits
    second.say(["ack", exits[0][0]])
    second.round_trip()
    second.say(["list"])
    second.wait(lambda: len(second.of("channels")) == 2)

    assert second.of("channels")[-1][1] == []


def test_a_worker_that_reads_nothing_holds_nobody_up(house: Any) -> None:
    controller, instance = warm(house, [sys.executable, "-c", "import time; time.sleep(60)"])
    controller.started(instance)

    controller.say(["feed", [[instance, 0, "", "x" * 2_000_000 + "\n"]]])

    controller.round_trip()
    controller.say(["signal", "worker/w-0", instance, 9, "tree"])
    assert controller.exit(instance)["signal"] == 9


def test_what_has_no_end_is_passed_on_as_it_is_for_whoever_reads_it_to_refuse(house: Any) -> None:
    controller, _ = warm(
        house, [sys.executable, "-c", "import os, time\nos.write(1, b'x' * 1_500_000); time.sleep(60)"]
    )

    controller.wait(lambda: len(said(controller)) > 1_000_000)

    assert "\n" not in said(controller)


def test_a_worker_that_closes_its_side_and_lives_is_told_of(house: Any) -> None:
    controller, instance = warm(
        house, [sys.executable, "-c", "import os, time\nos.close(0); os.close(1); time.sleep(60)"]
    )

    controller.wait(lambda: controller.rows("said"))

    assert controller.rows("said") == [["worker/w-0", instance, 0, None]]


def test_a_worker_with_limits_has_its_channel_too(house: Any) -> None:
    controller, instance = warm(house, limits={"nice": 5})
    controller.wait(lambda: said(controller) == "ready\n")

    controller.say(["feed", [[instance, 0, "", "one\n"]]])

    controller.wait(lambda: said(controller) == "ready\ndid one\n")
