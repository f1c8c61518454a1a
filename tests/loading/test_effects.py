"""What a plan says of a change: its effect, its workers, its reason."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from reconciler.loading.apply import apply
from reconciler.loading.effects import differences, preview
from reconciler.loading.parse import SourceFile
from reconciler.loading.validate import load
from reconciler.resources.meta import Change, Key, Metadata, Object
from reconciler.resources.overrides import overridden
from reconciler.resources.pool import Pool, template_hash
from reconciler.resources.worker import Process, State, Worker, WorkerSpec, WorkerStatus
from reconciler.store.memory import MemoryStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOURCE = "/srv/manifests"


def pool(spec: str = "replicas: 3, template: {command: [sleep, inf]}", name: str = "web", labels: str = "{}") -> Object:
    text = f"apiVersion: reconciler/v1\nkind: Pool\nmetadata: {{name: {name}, labels: {labels}}}\nspec: {{{spec}}}\n"
    result = load([SourceFile(f"{SOURCE}/{name}.yaml", text.encode())], SOURCE)
    assert result.problems == (), result.problems
    return result.objects[0]


def running(*objects: Object) -> MemoryStore:
    """A store in which these are applied and their workers are up."""
    numbers = itertools.count()
    store = MemoryStore(new_uid=lambda: f"uid-{next(numbers)}", now=lambda: NOW)
    apply(store, objects, SOURCE, False, "tester", NOW)
    for obj in objects:
        assert isinstance(obj, Pool)
        for ordinal in range(obj.spec.replicas if obj.spec.tasks is None else 0):
            hash_ = template_hash(obj.spec.template)
            spec = WorkerSpec(pool=obj.name, ordinal=ordinal, template_hash=hash_)
            up = WorkerStatus(state=State.READY, process=Process.UP, ready=True, template_hash=hash_)
            metadata = Metadata(name=f"{obj.name}-{ordinal}", owner=str(obj.key))
            store.create(Worker(metadata=metadata, spec=spec, status=up))
    store.commit()
    return store


def change(store: MemoryStore, *objects: Object, prune: bool = False) -> dict[str, Any]:
    """What is planned for the first object."""
    found: dict[str, Any] = preview(store, objects, SOURCE, prune, NOW)["changes"][0]
    assert not store.staged, "a plan writes nothing"
    return found


def test_what_is_not_there_is_created_with_its_workers() -> None:
    found = change(running(), pool())

    assert (found["object"], found["action"], found["effect"]) == ("pool/web", "create", "none")
    assert found["workers"] == ["web-0", "web-1", "web-2"]


def test_what_is_the_same_is_no_change() -> None:
    found = change(running(pool()), pool())

    assert (found["action"], found["effect"], found["fields"], found["workers"]) == ("none", "none", [], [])


def test_a_label_is_cosmetic_and_touches_nothing() -> None:
    found = change(running(pool()), pool(labels="{team: shop}"))

    assert (found["action"], found["effect"], found["workers"]) == ("update", "none", [])
    assert found["fields"] == [{"path": "metadata.labels.team", "old": None, "new": "shop", "change": "cosmetic"}]


def test_a_live_field_is_applied_in_place() -> None:
    found = change(running(pool()), pool("replicas: 3, template: {command: [sleep, inf], stop: {gracePeriod: 5s}}"))

    assert (found["action"], found["effect"], found["workers"]) == ("update", "live", [])
    assert found["fields"] == [
        {"path": "spec.template.stop.gracePeriod", "old": "30s", "new": "5s", "change": "live"},
    ]
    assert "in place" in found["reason"]


@pytest.mark.parametrize(
    ("replicas", "workers"), [(5, ["web-3", "web-4"]), (1, ["web-2", "web-1"]), (0, ["web-2", "web-1", "web-0"])]
)
def test_another_number_of_replicas_names_who_starts_and_who_stops_first(replicas: int, workers: list[str]) -> None:
    found = change(running(pool()), pool(f"replicas: {replicas}, template: {{command: [sleep, inf]}}"))

    assert (found["action"], found["effect"], found["workers"]) == ("update", "live", workers)
    assert f"spec.replicas from 3 to {replicas}" in found["reason"]


def test_a_template_field_replaces_workers_one_after_another_and_says_which_field_it_was() -> None:
    found = change(running(pool()), pool("replicas: 3, template: {command: [sleep, '9']}"))

    assert (found["action"], found["effect"], found["workers"]) == ("replace", "rolling", ["web-0", "web-1", "web-2"])
    assert found["fields"] == [
        {"path": "spec.template.command[1]", "old": "inf", "new": "9", "change": "template"},
    ]
    assert found["reason"] == "spec.template.command[1]: 3 workers are replaced, one after another"


def test_workers_that_are_down_are_replaced_first_as_a_rollout_does() -> None:
    store = running(pool())
    store.set_status(Key("Worker", "web-2"), WorkerStatus(state=State.BACKOFF))
    store.commit()

    found = change(store, pool("replicas: 3, template: {command: [sleep, '9']}"))

    assert found["workers"] == ["web-2", "web-0", "web-1"]


def test_all_workers_at_once_is_a_restart_and_no_rollout() -> None:
    found = change(
        running(pool()), pool("replicas: 3, template: {command: [sleep, '9']}, strategy: {maxUnavailable: 3}")
    )

    assert (found["action"], found["effect"]) == ("replace", "restart")
    assert "3 at once" in found["reason"]


def test_the_template_of_tasks_holds_from_the_next_task_on() -> None:
    slots = "replicas: 2, tasks: {mode: PerTask}, template: "
    found = change(running(pool(slots + "{}")), pool(slots + "{workingDir: /tmp}"))

    assert (found["action"], found["effect"], found["workers"]) == ("update", "live", [])
    assert "the next ones begin with it" in found["reason"]


def test_what_is_no_longer_declared_is_stopped_only_with_prune() -> None:
    store = running(pool(), pool(name="old"))

    changes = preview(store, [pool()], SOURCE, True, NOW)["changes"]

    assert [(c["object"], c["action"], c["effect"]) for c in changes] == [
        ("pool/web", "none", "none"),
        ("pool/old", "delete", "stop"),
    ]
    assert changes[1]["workers"] == ["old-2", "old-1", "old-0"]
    assert len(preview(store, [pool()], SOURCE, False, NOW)["changes"]) == 1


def test_a_plan_says_that_the_guard_would_refuse() -> None:
    store = running(*(pool(name=f"p{number}") for number in range(4)))

    found = preview(store, [pool(name="p0")], SOURCE, True, NOW)

    assert found["refused"].startswith("3 of the 4 objects of /srv/manifests would be pruned")
    assert [c["action"] for c in found["changes"]] == ["none", "delete", "delete", "delete"]


def test_an_overridden_field_stays_and_the_plan_says_so() -> None:
    store = running(pool())
    live = store.get(Pool, "web")
    assert live is not None
    store.update(overridden(live, "spec.replicas", 9, ""))
    store.commit()

    found = change(store, pool())
    assert (found["action"], found["reason"]) == ("none", "nothing differs")
    assert found["notes"] == ["spec.replicas is overridden until what is declared for it changes"]

    found = change(store, pool("replicas: 5, template: {command: [sleep, inf]}"))
    assert found["action"] == "update"
    assert found["notes"] == ["the override of spec.replicas ends"]


VARIANTS = [
    "replicas: 3, template: {command: [sleep, inf]}",
    "replicas: 2, template: {command: [sleep, inf]}",
    "replicas: 3, template: {command: [sleep, inf, x]}",
    "replicas: 3, template: {command: [sleep, inf], env: [{name: A, value: b}]}",
    "replicas: 3, template: {command: [sleep, inf], env: [{name: A, value: c}]}",
    "replicas: 3, template: {command: [sleep, inf], user: nobody}",
    "replicas: 3, template: {command: [sleep, inf], logs: {maxFiles: 2}}",
    "replicas: 3, template: {command: [sleep, inf], cleanup: {files: [/tmp/x]}}",
    "replicas: 3, template: {command: [sleep, inf], ports: [{name: http}]}",
    "replicas: 3, template: {command: [sleep, inf], ports: [{name: http, base: 8000}]}",
    "replicas: 3, template: {command: [sleep, inf]}, restart: {policy: Never}",
    "replicas: 3, template: {command: [sleep, inf]}, strategy: {minReady: 5s}",
]


@pytest.mark.parametrize(("old", "new"), [*itertools.permutations(VARIANTS, 2)])
def test_a_template_field_differs_exactly_when_the_templates_hash_does(old: str, new: str) -> None:
    before, after = pool(old), pool(new)
    assert isinstance(before, Pool) and isinstance(after, Pool)

    found = list(differences(before, after))

    assert found
    replaces = any(field.change is Change.TEMPLATE for field in found)
    assert replaces is (template_hash(before.spec.template) != template_hash(after.spec.template))


def test_a_changed_policy_is_applied_in_place_for_all_who_name_it() -> None:
    def policy(most: int) -> Object:
        text = f"apiVersion: reconciler/v1\nkind: RestartPolicy\nmetadata: {{name: steady}}\nspec: {{maxRestarts: {most}}}\n"
        result = load([SourceFile(f"{SOURCE}/steady.yaml", text.encode())], SOURCE)
        assert result.valid
        return result.objects[0]

    store = running()
    apply(store, [policy(5)], SOURCE, False, "tester", NOW)
    store.commit()

    found = change(store, policy(6))

    assert (found["object"], found["action"], found["effect"]) == ("restartpolicy/steady", "update", "live")
    assert found["fields"] == [{"path": "spec.maxRestarts", "old": 5, "new": 6, "change": "live"}]
