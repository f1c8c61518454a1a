"""What clients of the HTTP API see."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from small_daemon import answer

from reconciler.errors import (
    Conflict,
    Gone,
    Invalid,
    NotFound,
    QueueFull,
    ReconcilerError,
    Refused,
    Unavailable,
    Unreachable,
)
from reconciler.resources.meta import Key, Origin
from reconciler.resources.pool import Pool
from reconciler.resources.task import TaskState
from reconciler.resources.worker import State

WEB = {
    "apiVersion": "reconciler/v1",
    "kind": "Pool",
    "metadata": {"name": "web"},
    "spec": {"replicas": 2, "template": {"command": ["sleep", "1000"]}},
}


def test_a_pool_is_created_read_changed_and_deleted(house: Any) -> None:
    with house.client() as client:
        created = client.create("pools", WEB)
        assert created["metadata"]["generation"] == 1
        created["spec"]["replicas"] = 3
        changed = client.replace("pools", created)
        assert (changed["spec"]["replicas"], changed["metadata"]["generation"]) == (3, 2)
        assert client.get("pools", "web") == changed
        assert client.delete("pools", "web")["metadata"]["deletedAt"] == "2026-11-23T18:10:00.000Z"


def test_a_list_has_a_revision_to_watch_from(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("web"))
    with house.client() as client:
        found = client.find("pools")
        assert found["kind"] == "List"
        assert found["metadata"]["resourceVersion"] == str(house.daemon.store.revision)
        assert [item["metadata"]["name"] for item in found["items"]] == ["web"]


def test_a_change_made_from_an_old_reading_is_a_conflict(house: Any) -> None:
    with house.client() as client:
        old = client.create("pools", WEB)
        client.scale("web", 5)
        with pytest.raises(Conflict):
            client.replace("pools", old)
        assert client.get("pools", "web")["spec"]["replicas"] == 5


def test_a_name_is_taken_once(house: Any) -> None:
    with house.client() as client:
        client.create("pools", WEB)
        with pytest.raises(Conflict):
            client.create("pools", WEB)


def test_an_object_over_http_is_checked_as_a_file_is(house: Any) -> None:
    bad = {**WEB, "spec": {"replicas": "three", "template": {"command": ["sleep", "1"]}}}
    with house.client() as client, pytest.raises(Invalid) as caught:
        client.create("pools", bad)
    (problem,) = caught.value.problems  # type: ignore[attr-defined]
    assert problem["path"] == "spec.replicas"


def test_a_watch_tells_every_change_in_order(house: Any) -> None:
    with house.client() as client, house.client() as writer:
        start = client.find("pools")["metadata"]["resourceVersion"]
        writer.create("pools", WEB)
        changes = client.watch("pools", start)
        assert next(changes)["type"] == "ADDED"
        for replicas in (3, 4, 5):
            writer.scale("web", replicas)
        assert [next(changes)["object"]["spec"]["replicas"] for _ in range(3)] == [3, 4, 5]
        house.within(lambda: house.daemon.store.remove(Key("Pool", "web")))
        house.within(house.daemon.store.commit)
        assert next(changes)["type"] == "DELETED"


def test_a_watch_from_a_revision_that_is_no_longer_kept_is_gone(house: Any) -> None:
    def many_changes() -> None:
        house.daemon.add_pool("web")
        for replicas in range(10_050):
            pool = house.daemon.store.get(Pool, "web")
            house.daemon.store.update(pool.changed(spec=pool.spec.changed(replicas=replicas)))
            house.daemon.store.commit()

    house.within(many_changes)
    with house.client() as client, pytest.raises(Gone):
        next(client.watch("pools", "1"))


def test_one_task_is_answered_by_one_and_a_list_by_a_list(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    with house.client() as client:
        task = client.submit("batch", {"command": ["true"], "maxAttempts": 1})
        assert task["metadata"]["name"] == "1"
        assert task["spec"] == {
            "pool": "batch",
            "command": ["true"],
            "priority": 100,
            "maxAttempts": 1,
            "onUnknown": "Retry",
        }
        assert task["status"]["state"] == "Pending"
        assert task["status"]["submittedAt"] == "2026-11-23T18:10:00.000Z"
        more = client.submit_many("batch", [{"command": ["a"]}, {"command": ["b"]}])
        assert [item["metadata"]["name"] for item in more] == ["2", "3"]
        assert client.get("tasks", "1") == task
        assert [item["metadata"]["name"] for item in client.find("tasks", pool="batch")["items"]] == ["1", "2", "3"]


def test_who_submits_by_the_thousand_is_answered_names(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True, queue_limit=10_000))
    with house.client() as client:
        tasks = [{"command": ["true"], "idempotencyKey": f"key {number % 2000}"} for number in range(2500)]
        names = list(client.submit_all("batch", iter(tasks)))
        assert names == [str(number % 2000 + 1) for number in range(2500)]
        assert list(client.submit_all("batch", [])) == []
        assert (
            client._request("POST", "/api/v1/pools/batch/tasks?answer=names", None, b'{"command":["a"]}') == b'["2001"]'
        )
        assert client._request("POST", "/api/v1/pools/batch/tasks?answer=names", None, b"[]") == b"[]"
        with pytest.raises(Invalid, match="answer: names was expected, got 'all'"):
            client._request("POST", "/api/v1/pools/batch/tasks?answer=all", None, b"[]")


def test_what_was_taken_in_is_told_before_what_went_wrong_with_the_rest(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True, queue_limit=10_000))

    def tasks(bad: Any) -> Iterator[dict[str, Any]]:
        for number in range(2500):
            yield {"command": ["true"]}
            if number == 2100:
                yield bad()

    def broken() -> dict[str, Any]:
        raise KeyError("broken")

    with house.client() as client:
        for bad, error in ((broken, KeyError), (lambda: {"command": []}, Invalid)):
            told: list[str] = []
            with pytest.raises(error):
                for name in client.submit_all("batch", tasks(bad)):
                    told.append(name)
            assert len(told) == 2000
            assert client.cancel_many("batch", None) == 2000
        assert client.submit("batch", {"command": ["true"]})["metadata"]["name"] == "4001"


def test_a_bad_task_in_a_list_refuses_the_whole_list_and_says_which(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    with house.client() as client:
        with pytest.raises(Invalid, match=r"\[1\]\.command"):
            client.submit_many("batch", [{"command": ["a"]}, {"command": []}])
        assert client.find("tasks")["items"] == []


def test_a_full_queue_is_429_and_takes_nothing(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True, queue_limit=2))
    with house.client() as client:
        with pytest.raises(QueueFull):
            client.submit_many("batch", [{"command": ["a"]}] * 3)
        assert client.find("tasks")["items"] == []


def test_the_same_key_with_another_content_is_409(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    with house.client() as client:
        first = client.submit("batch", {"command": ["a"], "idempotencyKey": "k"})
        assert client.submit("batch", {"command": ["a"], "idempotencyKey": "k"}) == first
        with pytest.raises(Conflict):
            client.submit("batch", {"command": ["b"], "idempotencyKey": "k"})


def test_a_full_disk_acknowledges_nothing(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    house.daemon.full = True
    with house.client() as client:
        with pytest.raises(Unavailable, match="the disk is full"):
            client.submit("batch", {"command": ["a"]})
        assert client.find("tasks")["items"] == []


def test_pages_of_tasks_make_one_list(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True, queue_limit=10_000))
    with house.client() as client:
        for _ in range(6):
            client.submit_many("batch", [{"command": ["a"]}] * 1000)
        assert len(client.find("tasks")["items"]) == 6000
        assert len(client.find("tasks", limit=10)["items"]) == 10


def test_an_ended_task_says_how(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    with house.client() as client:
        client.submit("batch", {"command": ["a"]})
        ended = {"exit_code": 3, "reason": "Exited", "slot": 1, "started_ms": 1_795_457_400_250}
        house.within(lambda: house.daemon.end_task(1, TaskState.DEAD_LETTERED, **ended))
        status = client.get("tasks", "1")["status"]
        assert status == {
            "state": "DeadLettered",
            "attempts": 1,
            "exitCode": 3,
            "reason": "Exited",
            "type": "UnexpectedExit",
            "message": "",
            "worker": "batch-1",
            "submittedAt": "2026-11-23T18:10:00.000Z",
            "startedAt": "2026-11-23T18:10:00.250Z",
            "finishedAt": "2026-11-23T18:10:00.000Z",
        }


def test_tasks_are_cancelled_one_by_one_or_by_selection(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    with house.client() as client:
        client.submit_many("batch", [{"command": ["a"]}] * 3)
        assert client.cancel("1")["status"]["state"] == "Cancelled"
        assert client.cancel_many("batch", "Pending") == 2
        with pytest.raises(NotFound):
            client.cancel("99")


def test_a_declared_number_of_replicas_is_changed_only_by_override(house: Any) -> None:
    def declared() -> None:
        pool = house.daemon.add_pool("web")
        origin = Origin(path="/srv/web.yaml", line=3, source="/srv")
        house.daemon.store.update(pool.changed(metadata=pool.metadata.changed(source=origin)))
        house.daemon.store.commit()

    house.within(declared)
    with house.client() as client:
        with pytest.raises(Refused, match=r"/srv/web\.yaml:3") as caught:
            client.scale("web", 5, reason="sale today")
        command = "reconciler scale pool/web --replicas 5 --override --reason 'sale today'"
        assert command in caught.value.help
        pool = client.scale("web", 5, override="1h", reason="sale today")
        assert pool["metadata"]["overrides"] == {"spec.replicas": "2026-11-23T19:10:00.000Z"}
        (event,) = client.events("pool/web")["items"]
        assert event["reason"] == "Scaled"
        assert event["message"] == "from 2 to 5 (override until 2026-11-23T19:10:00.000Z): sale today"
        assert event["cause"]["actor"].startswith("user ")


def test_manifests_are_applied_all_or_none(house: Any) -> None:
    good, bad = json.dumps(WEB), json.dumps({**WEB, "spec": {"replicas": -1}})
    with house.client() as client:
        with pytest.raises(Invalid) as caught:
            client.apply([("a.yaml", good), ("b.yaml", bad)])
        assert all(problem["file"] == "b.yaml" for problem in caught.value.problems)  # type: ignore[attr-defined]
        assert client.find("pools")["items"] == []
        assert client.apply([("a.yaml", good)])["results"] == [{"object": "pool/web", "word": "created"}]
        assert client.apply([("a.yaml", good)])["results"] == [{"object": "pool/web", "word": "unchanged"}]
        client.scale("web", 4)  # applied by hand: the operator's own


def _later(house: Any, call: Callable[[], None]) -> None:
    threading.Timer(0.1, lambda: house.within(call)).start()


def test_a_wait_ends_when_the_condition_holds(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("web"))
    _later(house, lambda: house.daemon.make_ready("web"))
    with house.client() as client:
        assert client.wait(["pool/web"], "ready", 60)["done"]


def test_a_wait_ends_with_the_time(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("web"))
    with house.client() as client:
        assert not client.wait(["pool/web"], "ready", 0.05)["done"]


def test_a_wait_for_deletion_ends_when_the_object_is_gone(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("web"))

    def remove() -> None:
        house.daemon.store.remove(Key("Pool", "web"))
        house.daemon.store.commit()
        house.daemon.wake()

    _later(house, remove)
    with house.client() as client:
        assert client.wait(["pool/web"], "deleted", 60)["done"]


@pytest.mark.parametrize("end", [TaskState.SUCCEEDED, TaskState.CANCELLED, TaskState.DEAD_LETTERED])
def test_a_wait_for_a_task_ends_with_any_end(house: Any, end: TaskState) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    with house.client() as client:
        client.submit("batch", {"command": ["a"]})
        _later(house, lambda: house.daemon.end_task(1, end))
        (result,) = client.wait(["task/1"], "finished", 60)["results"]
        assert result["status"]["state"] == end.value


def test_a_wait_for_what_can_no_longer_be_ends_at_once(house: Any) -> None:
    house.within(lambda: house.daemon.add_worker("web", 0, state=State.FAILED))
    with house.client() as client:
        found = client.wait(["worker/web-0"], "ready", 60)
        assert found["done"] and found["results"][0]["answer"] == "never"


def test_a_wait_for_all_ends_when_no_task_is_left(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    with house.client() as client:
        client.submit_many("batch", [{"command": ["a"]}] * 2)
        assert client.wait([], "finished", 0.05, "batch")["left"] == 2
        _later(house, lambda: [house.daemon.end_task(1), house.daemon.end_task(2)])
        assert client.wait([], "finished", 60, "")["done"]


def test_waiting_for_what_is_not_there_is_404(house: Any) -> None:
    with house.client() as client, pytest.raises(NotFound):
        client.wait(["pool/web"], "ready", 60)


def test_the_end_and_a_rescan_are_asked_for(house: Any) -> None:
    with house.client() as client:
        client.rescan()
        client.shutdown(keep_workers=True)
        said = [event["reason"] for event in client.events("daemon/reconciler")["items"]]
    assert said == ["RescanRequested", "ShutdownRequested"]
    assert (house.daemon.rescans, house.daemon.ended) == (1, [(True, False)])


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET /api/v1/nothing HTTP/1.1", 404),
        (b"GET /nowhere HTTP/1.1", 404),
        (b"DELETE /api/v1/status HTTP/1.1", 405),
        (b"POST /api/v1/workers HTTP/1.1", 405),
        (b"GET /api/v1/tasks?limit=many HTTP/1.1", 400),
        (b"GET /api/v1/pools?watch=true&resourceVersion=x HTTP/1.1", 400),
        (b"GET /api/v1/wait?for=pigs&object=pool/web HTTP/1.1", 400),
        (b"GET /api/v1/wait HTTP/1.1", 400),
    ],
)
def test_every_error_has_one_form(house: Any, request_line: bytes, status: int) -> None:
    head, _, body = house.raw(request_line + b"\r\nHost: x\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status)
    error = json.loads(body)["error"]
    assert set(error) == {"reason", "message", "help"} and error["message"]


def test_fault_H1_another_user_is_refused(house: Any) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for path in (house.state, house.path.parent):
        os.chmod(path, 0o755)
    os.chmod(house.path, 0o666)
    requests = (b"GET /api/v1/pools", b"GET /nowhere", b"POST /api/v1/shutdown", b"BREW /", b"HEAD /healthz")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(65534)
            for request in requests:
                os.write(writer, house.raw(request + b" HTTP/1.1\r\nHost: x\r\n\r\n").split(b"\r\n")[0] + b"\n")
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    with os.fdopen(reader, "rb") as answer:
        said = answer.read().splitlines()
    assert len(said) == len(requests)
    assert {line.split(b" ")[1] for line in said} <= {b"403", b"400"}  # 400: no method of HTTP
    assert house.daemon.ended == []


def test_fault_H3_a_body_beyond_the_limit_is_413(house: Any) -> None:
    said = house.raw(b"POST /api/v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 413")
    chunk = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
    head = b"POST /api/v1/apply HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert house.raw(head + chunk * 17).startswith(b"HTTP/1.1 413")


def test_fault_H3_a_head_without_end_is_431(house: Any) -> None:
    said = house.raw(b"GET /healthz HTTP/1.1\r\n" + b"X-A: b\r\n" * 20_000 + b"\r\n")
    assert said.startswith(b"HTTP/1.1 431")


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"POST /api/v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /api/v1/apply HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /api/v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    ],
)
def test_fault_H3_what_is_no_http_is_400_and_ends_the_connection(house: Any, data: bytes) -> None:
    said = house.raw(data)
    assert said.startswith(b"HTTP/1.1 400") and b"connection: close" in said
    with house.client() as client:
        client.ready()


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b'{"files": 3}', b'{"x": 1}', b"\xff"])
def test_fault_H3_a_bad_body_is_400(house: Any, body: bytes) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    for path in (b"apply", b"pools/batch/tasks", b"pools"):
        head = b"POST /api/v1/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path, len(body))
        status = house.raw(head + body).split(b" ", 2)[1]
        assert status in (b"400", b"422"), (path, status)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e", "web%00", "WEB", "-web", "0", "1e3", "%F0"]
)
def test_fault_H6_no_name_leads_out_of_the_house(house: Any, name: str) -> None:
    for kind in ("workers", "tasks"):
        said = house.raw(f"GET /api/v1/{kind}/{name}/logs HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert said.startswith(b"HTTP/1.1 404"), said


def test_output_ends_with_the_task_and_nothing_of_it_is_missing(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    with house.client() as client:
        client.submit("batch", {"command": ["a"]})
        path = house.daemon.write(Key("Task", "1"), "1.log", b"one\n")
        blocks = client.logs("tasks", "1", follow=True)
        assert next(blocks) == b"one\n"
        with path.open("ab") as file:
            file.write(b"two\n")
        house.within(lambda: house.daemon.end_task(1))
        assert b"".join(blocks) == b"two\n"


def test_the_last_lines_are_found_across_files(house: Any) -> None:
    house.within(lambda: house.daemon.add_worker("web", 0))
    key = Key("Worker", "web-0")
    house.daemon.write(key, "web.log.1", b"1\n2\n3\n")
    house.daemon.write(key, "web.log", b"4\n5\npart")
    with house.client() as client:
        assert b"".join(client.logs("workers", "web-0")) == b"1\n2\n3\n4\n5\npart"
        assert b"".join(client.logs("workers", "web-0", tail=1)) == b"part"
        assert b"".join(client.logs("workers", "web-0", tail=4)) == b"3\n4\n5\npart"
        assert b"".join(client.logs("workers", "web-0", tail=0)) == b""
        assert b"".join(client.logs("workers", "web-0", tail=99)) == b"1\n2\n3\n4\n5\npart"


def test_serving_ends_within_a_second_with_streams_open(house: Any) -> None:
    house.within(lambda: house.daemon.add_pool("web"))
    client = house.client()
    changes = client.watch("pools", "0")
    next(changes)
    failures: list[ReconcilerError] = []

    def wait() -> None:
        try:
            with house.client() as other:
                other.wait(["pool/web"], "ready", 60)
        except ReconcilerError as error:
            failures.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    house.until(lambda: house.daemon.waiting == 1)
    house.stop()
    with pytest.raises(Unreachable):
        next(changes)
    waiting.join(60)
    assert isinstance(failures[0], Unreachable)


def test_requests_follow_one_another_on_one_connection(house: Any) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(60)
        sock.connect(str(house.path))
        for _ in range(3):
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"".join(answer(sock)).endswith(b"ok\n")


@pytest.fixture
def launcher_lives(house: Any) -> Iterator[None]:
    with open(house.state / "launcher.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def test_a_wait_outlives_the_controller(house: Any, launcher_lives: None) -> None:
    house.within(lambda: house.daemon.add_pool("web"))
    found: list[Any] = []
    with house.client() as client:
        waiting = threading.Thread(target=lambda: found.append(client.wait(["pool/web"], "ready", 60)))
        waiting.start()
        house.until(lambda: house.daemon.waiting == 1)
        house.restart()
        house.until(lambda: house.daemon.waiting >= 1)
        house.within(lambda: house.daemon.make_ready("web"))
        waiting.join(60)
    assert found[0]["done"]


def test_output_of_a_task_is_whole_over_a_restart_of_the_controller(house: Any, launcher_lives: None) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    with house.client() as client:
        client.submit("batch", {"command": ["a"]})
        path = house.daemon.write(Key("Task", "1"), "1.log", b"one\n")
        blocks = client.follow("tasks", "1")
        assert next(blocks) == b"one\n"
        house.restart()
        with path.open("ab") as file:
            file.write(b"two\n")
        house.within(lambda: house.daemon.end_task(1))
        assert b"".join(blocks) == b"two\n"


def test_what_changes_something_is_never_sent_twice(house: Any, launcher_lives: None) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    house.daemon.stuck = True
    failures: list[Exception] = []

    def submit() -> None:
        try:
            with house.client() as client:
                client.submit("batch", {"command": ["a"]})
        except Unreachable as error:
            failures.append(error)

    submitting = threading.Thread(target=submit)
    submitting.start()
    house.until(lambda: house.daemon.live_task(1) is not None)
    house.restart()
    submitting.join(60)
    assert len(failures) == 1 and len(list(house.daemon.store.tasks.live())) == 1


def test_no_daemon_is_said_with_the_command_that_starts_one(tmp_path: Any) -> None:
    from reconciler.client import Client

    with pytest.raises(Unreachable) as caught:
        Client(str(tmp_path / "run" / "api.sock")).status()
    assert caught.value.help == f"start it: reconciler up --state {tmp_path}"
    assert caught.value.exit_code == 3
    with pytest.raises(Unreachable) as caught:
        Client("/nonexist.sock").status()
    assert caught.value.help is not None and "--state /" not in caught.value.help
    assert "run/api.sock in its state directory" in caught.value.help


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"command": ["a"], "payload": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'"a"',
        b"NaN",
    ],
    ids=["cut off", "no text", "deep", "deep payload", "a string", "no number"],
)
def test_fault_T10_what_is_no_task_or_too_deep_is_refused_and_the_daemon_lives(house: Any, body: bytes) -> None:
    house.within(lambda: house.daemon.add_pool("batch", tasks=True))
    with house.client() as client:
        with pytest.raises(Invalid):
            client._request("POST", "/api/v1/pools/batch/tasks", None, body)
        assert client.submit("batch", {"command": ["true"]})["status"]["state"] == "Pending"
