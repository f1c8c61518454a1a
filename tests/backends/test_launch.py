"""What the launcher is told of a start."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from reconciler.backends.base import Account
from reconciler.backends.launch import StartError, Starts, expand
from reconciler.resources.meta import Metadata
from reconciler.resources.pool import Template
from reconciler.resources.worker import Worker, WorkerSpec


class Machine:
    """A host with two accounts."""

    path = "/opt/bin:/bin"
    notify_path = "/run/notify.sock"

    def __init__(self, temporary: str = "") -> None:
        self.temporary = temporary
        self.made: list[str] = []

    def make_temporary(self, instance: str) -> None:
        if self.temporary == "/full":
            raise OSError(28, "No space left on device")
        self.made.append(instance)

    def remove_temporary(self, instance: str) -> None:
        self.made.remove(instance)

    def account(self, user: str | None) -> Account:
        if user is None:
            return Account(None, None, None, "me", "/home/me", "/bin/sh")
        if user == "www":
            return Account(33, 33, [33, 44], "www", "/var/www", "/bin/false")
        raise LookupError(user)

    def group(self, name: str) -> int:
        return {"www": 33, "adm": 4}[name]

    def free_port(self) -> int:
        return 4711

    def remove_files(self, files: Sequence[str]) -> list[str]:
        return []

    def cpu_ms(self, pid: int) -> int | None:
        return None

    def renice(self, pid: int, nice: int) -> None:
        """Nothing competes here."""

    def remove_output(self, names: Sequence[str]) -> None:
        """There are none."""

    def remove_logs(self, newest: str) -> None:
        return None


def a_worker(ordinal: int = 1) -> Worker:
    spec = WorkerSpec(pool="web", ordinal=ordinal, template_hash="abc", ports={"http": 8001, "admin-ui": 9001})
    return Worker(metadata=Metadata(name=f"web-{ordinal}", uid="0a1b"), spec=spec)


def a_template(**fields: object) -> Template:
    return Template.model_validate({"command": ["serve", "$(PORT)"], **fields})


def test_a_worker_gets_its_command_with_its_own_environment_and_nothing_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "x")
    template = a_template(env=[{"name": "URL", "value": "http://$(RECONCILER_WORKER):$(PORT_ADMIN_UI)/$$5"}])
    register, spawn = Starts(Machine()).worker("web", a_worker(), "0a1b.1", "abc", template)
    assert register[:2] == ["register", "web@abc"]
    assert register[2]["env"] == {
        "PATH": "/opt/bin:/bin", "HOME": "/home/me", "USER": "me", "LOGNAME": "me", "SHELL": "/bin/sh",
        "RECONCILER_POOL": "web",
    }  # fmt: skip
    assert spawn == [
        "spawn",
        [
            [
                "worker/web-1",
                "0a1b.1",
                "web@abc",
                ["serve", "8001"],
                {
                    "RECONCILER_ORDINAL": "1",
                    "RECONCILER_WORKER": "web-1",
                    "RECONCILER_INSTANCE": "0a1b.1",
                    "PORT": "8001",
                    "PORT_HTTP": "8001",
                    "PORT_ADMIN_UI": "9001",
                    "URL": "http://web-1:9001/$5",
                },
                "w/0a1b.1.log",
            ]
        ],
    ]


def test_a_template_is_sent_once_and_again_only_when_it_changed() -> None:
    starts = Starts(Machine())
    assert len(starts.worker("web", a_worker(0), "a.1", "abc", a_template())) == 2
    assert [m[0] for m in starts.worker("web", a_worker(1), "b.1", "abc", a_template())] == ["spawn"]
    changed = a_template(stop={"gracePeriod": "1s"})
    assert [m[0] for m in starts.worker("web", a_worker(1), "b.2", "abc", changed)] == ["register", "spawn"]


def test_an_unknown_variable_or_account_is_a_failed_start_with_its_step() -> None:
    with pytest.raises(StartError) as error:
        Starts(Machine()).worker("web", a_worker(), "a.1", "abc", a_template(command=["serve", "$(NOPE)"]))
    assert error.value.step == "expand" and "NOPE" in error.value.message
    with pytest.raises(StartError) as error:
        Starts(Machine()).worker("web", a_worker(), "a.1", "abc", a_template(user="nobody-here"))
    assert error.value.step == "identity"


def test_an_account_brings_its_ids_and_its_home() -> None:
    register, _ = Starts(Machine()).worker("web", a_worker(), "a.1", "abc", a_template(user="www"))
    assert (register[2]["uid"], register[2]["gid"], register[2]["groups"]) == (33, 33, [33, 44])
    assert register[2]["env"]["HOME"] == "/var/www"


def test_tasks_bring_their_command_and_the_pool_says_who_and_where() -> None:
    starts = Starts(Machine())
    template = Template.model_validate({"workingDir": "/srv", "env": [{"name": "A", "value": "1"}]})
    register, lane = starts.lane("batch", 4, template, "abc")
    assert register[2]["lane"] == "batch" and register[2]["cwd"] == "/srv" and register[2]["env"]["A"] == "1"
    assert lane == ["lane", "batch", 4]
    assert starts.lane("batch", 4, template, "abc") == []
    assert starts.lane("batch", 2, template, "abc") == [["lane", "batch", 2]]
    spec = '{"pool":"batch","command":["true"],"env":{"A":"2","RECONCILER_TASK":"forged"},"payload":{"n":1}}'
    (spawn,) = starts.tasks("batch", [(1234, 2, "s.1234.2", spec)])
    assert spawn[1] == [
        [
            "task/1234",
            "s.1234.2",
            "batch@abc",
            ["true"],
            {
                "A": "2",
                "RECONCILER_TASK": "1234",
                "RECONCILER_ATTEMPT": "2",
                "RECONCILER_INSTANCE": "s.1234.2",
                "RECONCILER_PAYLOAD": '{"n":1}',
            },
            "t/1/1234.2.log",
        ]
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("plain", "plain"), ("$$", "$"), ("$$(A)", "$(A)"), ("$(A)-$(A)", "1-1"), ("$A ${A}", "$A ${A}")],
)
def test_only_parenthesised_names_are_variables(text: str, expected: str) -> None:
    assert expand(text, {"A": "1"}) == expected


def test_limits_and_identity_are_asked_for_only_where_they_are_declared() -> None:
    def registered(**fields: object) -> dict[str, object]:
        return dict(Starts(Machine()).worker("web", a_worker(), "a.1", "abc", a_template(**fields))[0][2])

    plain = registered()
    assert (plain["limits"], plain["umask"], plain["gid"], plain["groups"]) == ({}, 0o022, None, None)
    assert registered(resources={"enforcement": "Required"})["limits"] == {}
    assert registered(
        nice=5,
        rlimits={"nofile": 4096, "as": "1Gi", "cpu": "1m"},
        resources={"limits": {"memory": "512Mi", "cpu": 0.5, "pids": 200}, "cpuWeight": 50, "enforcement": "Required"},
        sandbox={"readWritePaths": ["/srv"], "privateTmp": True},
    )["limits"] == {
        "nice": 5, "rlimits": {"nofile": 4096, "as": 1 << 30, "cpu": 60}, "memory_bytes": 512 << 20, "cpu_milli": 500,
        "cpu_weight": 50, "pids": 200, "required": True, "read_write_paths": ["/srv"], "private_tmp": True,
    }  # fmt: skip
    other = registered(user="www", group="adm", groups=["www", "adm"], umask="027")
    assert (other["uid"], other["gid"], other["groups"], other["umask"]) == (33, 4, [33, 4], 0o027)
    with pytest.raises(StartError, match="no such group"):
        registered(group="nobody-has-it")


def test_a_task_with_limits_is_contained_so_that_its_cgroup_is_taken_away() -> None:
    def contained(**fields: object) -> object:
        template = Template.model_validate(fields)
        return next(m[2] for m in Starts(Machine()).lane("batch", 4, template, "abc") if m[0] == "register")["contain"]

    assert contained() is False
    assert contained(resources={"limits": {"memory": "1Gi"}}) is True


def test_where_the_daemon_is_not_root_a_private_tmp_is_a_directory_that_is_named_and_may_be_written() -> None:
    template = a_template(sandbox={"privateTmp": True, "readWritePaths": ["/srv"]})
    host = Machine("/state/tmp")
    register, spawn = Starts(host).worker("web", a_worker(), "0a1b.1", "abc", template)
    assert spawn[1][0][4]["TMPDIR"] == "/state/tmp/0a1b.1" and host.made == ["0a1b.1"]
    assert register[2]["limits"] == {"read_write_paths": ["/srv", "/state/tmp"]}
    with pytest.raises(StartError, match=r"a temporary directory: .*No space left") as failed:
        Starts(Machine("/full")).worker("web", a_worker(), "0a1b.1", "abc", template)
    assert (failed.value.step, failed.value.errno) == ("sandbox", 28)
