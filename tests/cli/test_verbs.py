"""The command line against a small daemon: what is printed, and with which code it ends."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from reconciler.resources.meta import Key
from reconciler.resources.pool import Pool
from reconciler.resources.task import TaskState
from reconciler.resources.worker import State

WEB = """\
apiVersion: reconciler/v1
kind: Pool
metadata: {name: web}
spec:
  replicas: 2
  template: {command: [sleep, "1000"]}
"""


@pytest.fixture
def web(house: Any) -> Any:
    """A ready pool of two workers, one of which is not."""

    def build() -> None:
        house.daemon.add_pool("web")
        house.daemon.add_worker("web", 0, state=State.READY, ready=True, pid=4242, instance="u.1")
        house.daemon.add_worker("web", 1, state=State.BACKOFF, restarts=3)
        house.daemon.make_ready("web")

    house.within(build)
    return house


@pytest.fixture
def batch(house: Any) -> Any:
    """A pool that takes tasks."""
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    return house


def _ages(text: bytes) -> str:
    """The text with ages, which grow, written as AGE."""
    return re.sub(r"\b\d+(s|m|h|d)(\d+[smh])?(?=\s|$)", "<age>", text.decode())


def test_get_prints_tables(web: Any, cli: Any) -> None:
    # ages are counted from a fixed moment of the test's store to now, so their column is as wide as they are
    lines = _ages(cli("get", "workers").stdout).splitlines()
    assert [line.split() for line in lines] == [
        ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "PID"],
        ["web-0", "1/1", "Ready", "0", "<age>", "4242"],
        ["web-1", "0/1", "Backoff", "3", "<age>", "-"],
    ]
    assert _ages(cli("get", "pools").stdout).splitlines()[1].split() == [
        "web", "2/2", "2", "2", "0", "-", "Ready", "<age>",
    ]  # fmt: skip


def test_get_prints_one_object_or_a_list(web: Any, cli: Any) -> None:
    assert json.loads(cli("get", "pools/web", "-o", "json").stdout)["kind"] == "Pool"
    assert json.loads(cli("get", "pool", "web", "-o", "json").stdout)["kind"] == "Pool"
    listed = json.loads(cli("get", "workers", "-o", "json").stdout)
    assert listed["kind"] == "List" and int(listed["metadata"]["resourceVersion"]) > 0
    assert [item["metadata"]["name"] for item in listed["items"]] == ["web-0", "web-1"]
    assert cli("get", "workers", "-o", "name").stdout == b"worker/web-0\nworker/web-1\n"
    assert cli("get", "wo/web-0", "-o", "jsonpath={.status.pid}").stdout == b"4242\n"


def test_get_selects_by_label(house: Any, cli: Any) -> None:
    def build() -> None:
        for name, tier in (("a", "front"), ("b", "back")):
            pool = house.daemon.add_pool(name)
            house.daemon.store.update(pool.changed(metadata=pool.metadata.changed(labels={"tier": tier})))
        house.daemon.store.commit()

    house.within(build)
    assert cli("get", "pools", "-l", "tier=front", "-o", "name").stdout == b"pool/a\n"
    assert cli("get", "pools", "-l", "tier!=front", "-o", "name").stdout == b"pool/b\n"


def test_get_watches(web: Any, cli: Any) -> None:
    words = [sys.executable, "-m", "reconciler", "--state", str(web.state), "get", "pools", "-w"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith("NAME")
        assert watching.stdout.readline().split()[1] == "2/2"
        assert cli("scale", "pool/web", "--replicas", "7").returncode == 0
        assert watching.stdout.readline().split()[1] == "2/7"
        watching.terminate()


def test_describe_shows_workers_and_events(web: Any, cli: Any) -> None:
    cli("scale", "pool/web", "--replicas", "3", "--reason", "sale")
    text = cli("describe", "pool/web").stdout.decode()
    assert "Name:        web\n" in text
    assert "  replicas: 3\n" in text
    assert "  web-1   0/1     Backoff" in text
    assert "from 2 to 3: sale" in text


def test_scale_without_override_prints_the_command_that_would_do(web: Any, cli: Any) -> None:
    from reconciler.resources.meta import Origin

    def declare() -> None:
        pool = web.daemon.store.get(Pool, "web")
        origin = Origin(path="/srv/web.yaml", line=1, source="/srv")
        web.daemon.store.update(pool.changed(metadata=pool.metadata.changed(source=origin)))
        web.daemon.store.commit()

    web.within(declare)
    refused = cli("scale", "pool/web", "--replicas", "5")
    assert refused.returncode == 5
    assert b"reconciler scale pool/web --replicas 5 --override" in refused.stderr
    assert cli("scale", "pool/web", "--replicas", "5", "--override").returncode == 0
    assert cli("scale", "pool/web", "--replicas", "6", "--override=1h").returncode == 0
    assert cli("scale", "pool/web", "--replicas", "6", "--override=1").returncode == 2

    note = "spec.replicas is overridden until what is declared for it changes or at "
    assert note in cli("describe", "pool/web").stdout.decode()
    assert note in cli("rollout", "status", "pool/web").stdout.decode()
    assert cli("scale", "pool/web").returncode == 2
    assert cli("scale", "pool/web", "--replicas", "6", "--override=0s").returncode == 2
    assert cli("scale", "pool/web", "--override=0s").stdout == b"pool/web: spec.replicas is as declared\n"
    assert "overridden" not in cli("describe", "pool/web").stdout.decode()
    assert web.daemon.store.get(Pool, "web").spec.replicas == 2
    again = cli("scale", "pool/web", "--override=0s")
    assert again.returncode == 5 and b"spec.replicas of pool/web is not overridden" in again.stderr


def test_all_overrides_are_told_in_the_same_words(cli: Any) -> None:
    for words, until in {
        ("scale",): "until that is changed there",
        ("rollout", "undo"): "until that is changed there",
        ("stop",): "until it is started",
    }.items():
        text = " ".join(cli(*words, "--help").stdout.decode().split())
        assert f"Over what a watched source declares: {until}, with =1h no longer than that." in text


def test_delete_says_so_and_unknown_names_are_4(web: Any, cli: Any) -> None:
    assert cli("delete", "pool/web").stdout == b"pool/web deleted\n"
    assert cli("delete", "pool/none").returncode == 4
    assert cli("get", "pools/none").returncode == 4
    assert cli("describe", "pool/none").returncode == 4
    assert cli("cancel", "task/99").returncode == 4
    assert cli("logs", "worker/none").returncode == 4


def test_apply_says_a_word_for_each_object(house: Any, cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(WEB)
    assert cli("apply", "-f", str(path)).stdout == b"pool/web created\n"
    assert cli("apply", "-f", str(path)).stdout == b"pool/web unchanged\n"
    path.write_text(WEB.replace("replicas: 2", "replicas: 3"))
    assert cli("apply", "-f", str(path)).stdout == b"pool/web configured\n"
    path.write_text(WEB.replace("replicas: 2", "replicas: three"))
    refused = cli("apply", "-f", str(path))
    assert refused.returncode == 1
    assert f"{path}:5:13: error[type]: spec.replicas:".encode() in refused.stderr
    assert cli("apply", "-f", "-", stdin=WEB.encode()).stdout == b"pool/web configured\n"


def test_validate_needs_no_daemon(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "web.yaml"
    path.write_text(WEB)
    assert cli("validate", str(tmp_path)).returncode == 0
    path.write_text(WEB.replace("replicas: 2", "replicas: three"))
    bad = cli("validate", str(path), "--format", "concise")
    assert bad.returncode == 1
    assert bad.stdout.startswith(f"{path}:5:13: error[type]: spec.replicas: ".encode())
    assert bad.stdout.count(b"\n") == 1
    assert cli("validate", str(tmp_path / "none")).returncode == 2


def test_submit_prints_the_name_or_the_task(batch: Any, cli: Any) -> None:
    assert cli("submit", "--pool", "batch", "--", "true").stdout == b"task/1\n"
    task = json.loads(cli("submit", "-o", "json", "--idempotency-key", "k", "--", "echo", "-n").stdout)
    assert task["spec"]["command"] == ["echo", "-n"]
    assert cli("submit", "--idempotency-key", "k", "--", "other").returncode == 5
    assert cli("submit", "--pool", "none", "--", "true").returncode == 4
    assert cli("submit").returncode == 2
    assert cli("submit", "--payload", "{", "--", "true").returncode == 2


def test_submit_from_a_file_prints_the_count(batch: Any, cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text('{"command": ["a"]}\n\n{"command": ["b"], "maxAttempts": 1}\n')
    assert cli("submit", "--pool", "batch", "--from", str(path)).stdout == b"2\n"
    assert cli("submit", "--pool", "batch", "--from", "-", stdin=path.read_bytes()).stdout == b"2\n"
    path.write_text('{"command": ["a"]}\n{"command": [\n')
    torn = cli("submit", "--pool", "batch", "--from", str(path))
    assert torn.returncode == 2 and f"{path}:2: Invalid JSON: EOF".encode() in torn.stderr
    assert len(json.loads(cli("get", "tasks", "-o", "json").stdout)["items"]) == 4


def test_submit_from_a_file_says_all_that_is_wrong_with_it_and_submits_nothing(
    batch: Any, cli: Any, tmp_path: Path
) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(
        '{"command": ["a"]}\n{"command": ["a"], "priorty": 200}\n{"comand": "a", "maxAttempts": "3"}\n'
        '["a"]\n{"command": ["a"], "timeout": 30, "deadline": "soon"}\n'
    )
    for file, stdin in ((str(path), b""), ("-", path.read_bytes())):
        answer = cli("submit", "--pool", "batch", "--from", file, stdin=stdin)
        assert (answer.returncode, answer.stdout) == (2, b"")
        said = answer.stderr.decode()
        for line in (
            f"{file}:2: priorty: there is no such field (did you mean priority?)\n",
            f"{file}:3: comand: there is no such field (did you mean command?)\n",
            f"{file}:3: maxAttempts: expected a whole number, got '3' (",
            f"{file}:4: expected a map, got ",
            f"{file}:5: timeout: ",
            f"{file}:5: deadline: expected 10m from now",
            "nothing has been submitted",
        ):
            assert line in said, said
    assert json.loads(cli("get", "tasks", "-o", "json").stdout)["items"] == []


def test_run_shows_the_output_and_ends_with_the_code(batch: Any, cli: Any) -> None:
    def live() -> None:
        key = Key("Task", "1")
        batch.until(lambda: batch.daemon.live_task(1) is not None)
        path = batch.daemon.write(key, "1.log", b"one\n\x1b[31m\xff\n")
        with path.open("ab") as file:
            file.write(b"two\n")
        batch.within(lambda: batch.daemon.end_task(1, TaskState.FAILED, exit_code=7, reason="Exited"))

    batch.daemon.files[Key("Task", "1")] = []
    thread = threading.Thread(target=live)
    thread.start()
    done = cli("run", "--", "sh", "-c", "echo one")
    thread.join()
    assert (done.returncode, done.stdout) == (7, b"one\n\x1b[31m\xff\ntwo\n")
    task = json.loads(cli("get", "task/1", "-o", "json").stdout)
    assert (task["spec"]["maxAttempts"], task["spec"]["command"]) == (1, ["sh", "-c", "echo one"])


def test_run_without_a_pool_needs_exactly_one(house: Any, cli: Any) -> None:
    assert cli("run", "--", "true").returncode == 2
    house.within(lambda: [house.daemon.add_pool("a", tasks=True), house.daemon.add_pool("b", tasks=True)])
    several = cli("run", "--", "true")
    assert several.returncode == 2 and b"a, b" in several.stderr


def test_wait_for_a_task_ends_with_its_code(batch: Any, cli: Any) -> None:
    cli("submit", "--", "a")
    batch.within(lambda: batch.daemon.end_task(1, TaskState.DEAD_LETTERED, exit_code=3, reason="Exited"))
    assert cli("wait", "task/1").returncode == 3
    cli("submit", "--", "a")
    assert cli("wait", "task/2", "--timeout", "50ms").returncode == 124
    assert cli("wait", "--all", "--pool", "batch", "--timeout", "50ms").returncode == 124
    assert cli("cancel", "task/2").stdout == b"task/2 cancelled\n"
    assert cli("wait", "task/2").returncode == 125
    assert cli("wait", "--all").returncode == 0
    assert cli("wait", "task/1", "task/2").returncode == 1


def test_wait_for_a_pool(web: Any, cli: Any) -> None:
    assert cli("wait", "pool/web").returncode == 0
    assert cli("wait", "pool/web", "--for", "condition=Ready").returncode == 0
    assert cli("wait", "pool/web", "--for", "condition=Degraded", "--timeout", "50ms").returncode == 124
    assert cli("wait", "pool/none").returncode == 4
    assert cli("wait", "pool/none", "--for", "deleted").returncode == 0
    assert cli("wait").returncode == 2


def test_cancel_by_selection(batch: Any, cli: Any) -> None:
    cli("submit", "--from", "-", stdin=b'{"command": ["a"]}\n' * 3)
    assert cli("cancel", "--pool", "batch", "--state", "Pending").stdout == b"3 tasks cancelled\n"
    assert cli("cancel").returncode == 2


def test_the_word_state_is_a_state_of_tasks_or_a_directory(
    batch: Any, cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cli("submit", "--", "a")
    words = ("get", "tasks", "--state", "Pending", "--state", str(batch.state), "-o", "name")
    monkeypatch.setenv("RECONCILER_STATE", "/nowhere")
    assert cli(*words).stdout == b"task/1\n"
    monkeypatch.setenv("RECONCILER_STATE", str(batch.state))
    assert cli("get", "tasks", "--state", "Failed", "-o", "name").stdout == b""


def test_events_name_who_did_it(web: Any, cli: Any) -> None:
    cli("scale", "pool/web", "--replicas", "3")
    listed = json.loads(cli("events", "--for", "pool/web", "-o", "json").stdout)["items"]
    assert listed[0]["cause"]["actor"].startswith("user ")
    assert b"Scaled" in cli("events").stdout


def test_status_says_first_whether_all_is_well(house: Any, cli: Any) -> None:
    told = cli("status")
    assert told.returncode == 1
    assert told.stdout.startswith(b"1 problem:\n  - pool/web: CrashLoop: worker/web-1 \\x1b[31mcrashes\n")
    assert cli("status", "-o", "json").returncode == 0
    assert json.loads(cli("status", "-o", "json").stdout)["launcher"] == {"pid": 10}


def test_logs_of_a_pool_name_the_worker_of_each_line(web: Any, cli: Any) -> None:
    for ordinal in (0, 1):
        web.daemon.write(Key("Worker", f"web-{ordinal}"), f"{ordinal}.log", b"a\nb\n")
    assert cli("logs", "pool/web", "--tail", "1").stdout == b"web-0: b\nweb-1: b\n"
    assert cli("logs", "worker/web-0").stdout == b"a\nb\n"
    assert cli("logs", "nonsense").returncode == 2


def test_fault_H12_logs_on_a_terminal_are_harmless(web: Any, cli: Any) -> None:
    web.daemon.write(Key("Worker", "web-0"), "0.log", b"\x1b]0;owned\x07 \xff\n")
    assert cli("logs", "worker/web-0").stdout == b"\x1b]0;owned\x07 \xff\n"
    main, terminal = pty.openpty()
    environment = {**os.environ, "RECONCILER_STATE": str(web.state)}
    subprocess.run([sys.executable, "-m", "reconciler", "logs", "worker/web-0"], stdout=terminal, env=environment)
    os.close(terminal)
    shown = os.read(main, 4096)
    os.close(main)
    assert shown == b"\\x1b]0;owned\\x07 \\xff\r\n"


def test_fault_H13_a_closed_pipe_is_no_traceback(house: Any) -> None:
    def build() -> None:
        for number in range(300):
            house.daemon.add_pool(f"pool-{number}")

    house.within(build)
    command = f"{sys.executable} -m reconciler --state {house.state} get pools -o yaml | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, timeout=60)
    assert done.stdout == b"kind: List\n"
    assert done.stderr == b""


def test_without_a_daemon_every_verb_ends_with_3(cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECONCILER_STATE", str(tmp_path))
    for words in (["get", "pools"], ["status"], ["down"], ["submit", "--pool", "b", "--", "true"], ["events"]):
        done = cli(*words)
        assert done.returncode == 3, words
        assert f"help: start it: reconciler up --state {tmp_path}".encode() in done.stderr


def test_down_waits_for_the_lock(house: Any, cli: Any) -> None:
    with open(house.state / "launcher.lock", "w+") as lock:
        lock.write("4242\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert cli("down", "--timeout", "50ms").returncode == 124
    assert cli("down", "--keep-workers").returncode == 0
    assert house.daemon.ended == [(False, False), (True, False)]


def test_usage_errors_end_with_2(cli: Any) -> None:
    for words in (
        ["bogus"],
        ["get"],
        ["get", "pools", "-o", "bogus"],
        ["up", "--bogus"],
        ["up", "/no/such/path"],
        ["up", "--once", "--detach"],
        ["scale", "pool/web"],
        ["scale", "worker/web-0", "--replicas", "1"],
        ["wait", "pool/web", "--timeout", "5"],
        ["describe", "pools"],
    ):
        done = cli(*words)
        assert done.returncode == 2, (words, done.stderr)
        assert b"Traceback" not in done.stderr


def test_version_is_quick_to_say(cli: Any) -> None:
    from reconciler import __version__

    assert cli("version").stdout.startswith(f"reconciler {__version__} ".encode())
    assert json.loads(cli("version", "-o", "json").stdout)["version"] == __version__
    code = "import sys; sys.argv[1:] = ['version']; from reconciler.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "print([name for name in ('pydantic', 'yaml', 'asyncio', 'uvicorn', 'ssl') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.stdout.endswith(b"[]\n")


def test_doctor_checks_the_machine(house: Any, cli: Any) -> None:
    done = cli("doctor")
    assert done.returncode in (0, 1)
    assert re.search(rb"^ok    python +3\.", done.stdout)
    assert b"daemon" in done.stdout


def test_every_verb_has_help(cli: Any) -> None:
    from reconciler.cli.root import VERBS

    listed = cli("--help").stdout.decode()
    for verb in VERBS:
        assert f"  {verb} " in listed
        assert cli(verb, "--help").returncode == 0


def test_delete_judges_all_that_is_named_as_one(web: Any, cli: Any, tmp_path: Path) -> None:
    shop = tmp_path / "shop.yaml"
    text = WEB.replace("name: web", "name: shop") + "  dependsOn: [{kind: Pool, name: web}]\n"
    shop.write_text(text)
    assert cli("apply", "-f", str(shop)).returncode == 0
    refused = cli("delete", "pool/web")
    assert refused.returncode == 5 and b"pool/web is used by pool/shop" in refused.stderr
    gone = cli("delete", "pool/web", "pool/shop")
    assert (gone.returncode, gone.stdout) == (0, b"pool/web deleted\npool/shop deleted\n"), gone


def test_rollout_restart_does_not_wait_for_a_pool_that_is_stopped(web: Any, cli: Any) -> None:
    assert cli("stop", "pool/web").returncode == 0
    answer = cli("rollout", "restart", "pool/web", "--wait")
    assert answer.returncode == 5
    assert b"pool/web is stopped" in answer.stderr and b"reconciler start pool/web" in answer.stderr
    assert json.loads(cli("get", "pool/web", "-o", "json").stdout)["status"]["restartsAsked"] == 0
