"""Declared objects into the store: all of them or none."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.errors import Conflict, Invalid, Refused
from reconciler.loading.apply import apply
from reconciler.loading.parse import SourceFile
from reconciler.loading.validate import load
from reconciler.resources.meta import Key, Object
from reconciler.resources.overrides import ended, overridden
from reconciler.resources.pool import Pool
from reconciler.store.memory import MemoryStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOURCE = "/srv/manifests"


def new_store() -> MemoryStore:
    numbers = itertools.count()
    return MemoryStore(new_uid=lambda: f"uid-{next(numbers)}", now=lambda: NOW)


def pool(name: str = "web", replicas: int = 1, source: str = SOURCE, revision: str = "r1", **more: str) -> Object:
    text = f"""
apiVersion: reconciler/v1
kind: Pool
metadata: {{name: {name}, labels: {more.get("labels", "{}")}, annotations: {more.get("annotations", "{}")}}}
spec:
  replicas: {replicas}
  template: {{command: [sleep, inf]}}
  restart: {{policy: {more.get("policy", "Always")}}}
"""
    text = "\n" * int(more.get("lines", "0")) + text
    result = load([SourceFile(f"{source}/{name}.yaml", text.encode())], source, revision)
    assert result.problems == ()
    return result.objects[0]


def words(store: MemoryStore, *objects: Object, source: str = SOURCE, prune: bool = False) -> list[str]:
    return [f"{key} {word}" for key, word in apply(store, objects, source, prune, "tester", NOW)]


def get(store: MemoryStore, name: str = "web") -> Pool:
    found = store.get(Pool, name)
    assert found is not None
    return found


def override(store: MemoryStore, replicas: int, until: str) -> None:
    store.update(overridden(get(store), "spec.replicas", replicas, until))


def test_an_object_is_created_then_unchanged_then_configured() -> None:
    store = new_store()

    assert words(store, pool()) == ["pool/web created"]
    assert words(store, pool()) == ["pool/web unchanged"]
    assert words(store, pool(replicas=2)) == ["pool/web configured"]
    assert get(store).spec.replicas == 2
    assert get(store).metadata.generation == 2


def test_it_is_staged_and_the_caller_commits() -> None:
    store = new_store()
    words(store, pool())
    assert store.staged
    store.commit()

    words(store, pool())

    assert not store.staged


def test_labels_annotations_and_the_place_in_the_file_leave_the_generation_alone() -> None:
    store = new_store()
    words(store, pool())

    assert words(store, pool(labels="{team: shop}")) == ["pool/web configured"]
    assert words(store, pool(labels="{team: shop}", annotations="{note: x}")) == ["pool/web configured"]
    assert words(store, pool(labels="{team: shop}", annotations="{note: x}", lines="3")) == ["pool/web unchanged"]

    metadata = get(store).metadata
    assert (metadata.generation, metadata.labels, metadata.annotations) == (1, {"team": "shop"}, {"note": "x"})
    assert metadata.source is not None and metadata.source.line == 5


def test_a_commit_that_did_not_touch_an_object_writes_nothing_of_it() -> None:
    store = new_store()
    words(store, pool())
    store.commit()

    assert words(store, pool(revision="r2")) == ["pool/web unchanged"]
    assert not store.staged
    words(store, pool(revision="r3", replicas=2))
    origin = get(store).metadata.source
    assert origin is not None and origin.revision == "r3"


def test_status_and_identity_stay_when_the_spec_changes() -> None:
    store = new_store()
    words(store, pool())
    uid = get(store).metadata.uid
    store.set_status(Key("Pool", "web"), get(store).status.changed(ready_replicas=1))

    words(store, pool(replicas=5))

    assert get(store).status.ready_replicas == 1
    assert get(store).metadata.uid == uid


def test_fault_M18_an_object_of_another_source_is_a_conflict_and_nothing_is_staged() -> None:
    store = new_store()
    words(store, pool("db", source="/other"), source="/other")
    store.commit()

    with pytest.raises(Conflict, match=r"pool/db is declared at db.yaml:\d+ of /other"):
        words(store, pool("web"), pool("db"))

    assert not store.staged
    assert store.get(Pool, "web") is None


def test_an_object_that_nobody_owns_is_taken_over() -> None:
    store = new_store()
    words(store, pool(source=""), source="")

    assert words(store, pool()) == ["pool/web unchanged"]
    origin = get(store).metadata.source
    assert origin is not None and origin.source == SOURCE


def test_an_object_on_its_way_out_can_be_declared_again_when_it_is_gone() -> None:
    store = new_store()
    words(store, pool())
    live = get(store)
    store.update(live.changed(metadata=live.metadata.changed(deleted_at=NOW)))

    with pytest.raises(Conflict, match="still being deleted"):
        words(store, pool())

    store.remove(live.key)
    assert words(store, pool()) == ["pool/web created"]


@pytest.mark.parametrize("until", ["", "2026-01-01T01:00:00.000Z"])
def test_what_an_operator_has_overridden_keeps_its_live_value(until: str) -> None:
    store = new_store()
    words(store, pool(replicas=3))
    override(store, 7, until)

    assert words(store, pool(replicas=3)) == ["pool/web unchanged"]
    assert words(store, pool(replicas=3, policy="Never")) == ["pool/web configured"]

    assert get(store).spec.replicas == 7
    assert get(store).spec.restart.policy == "Never"
    assert get(store).metadata.overrides == {"spec.replicas": until}


@pytest.mark.parametrize("until", ["", "2026-01-01T01:00:00.000Z"])
def test_an_override_ends_when_the_source_declares_another_value_for_its_field(until: str) -> None:
    store = new_store()
    words(store, pool(replicas=3))
    override(store, 7, until)
    override(store, 8, until)  # over the override: what the source declared is still 3

    assert words(store, pool(replicas=3)) == ["pool/web unchanged"]
    assert words(store, pool(replicas=4)) == ["pool/web configured"]

    assert get(store).spec.replicas == 4
    assert (get(store).metadata.overrides, get(store).metadata.declared) == ({}, {})


def test_an_overridden_template_ends_with_any_edit_of_the_template() -> None:
    store = new_store()
    words(store, pool())
    live = get(store)
    template = live.spec.template
    store.update(overridden(live, "spec.template", template.changed(command=["sleep", "1"]), ""))

    assert words(store, pool()) == ["pool/web unchanged"]
    assert get(store).spec.template.command == ["sleep", "1"]
    edited = pool()
    edited = edited.changed(spec=edited.spec.changed(template=template.changed(command=["sleep", "2"])))
    assert words(store, edited) == ["pool/web configured"]
    assert get(store).spec.template.command == ["sleep", "2"]


def test_an_override_without_what_was_declared_is_bound_to_what_is_declared_next() -> None:
    store = new_store()
    words(store, pool(replicas=3))
    override(store, 7, "")
    live = get(store)
    store.update(live.changed(metadata=live.metadata.changed(declared={})))  # as an earlier version has left it

    words(store, pool(replicas=4))
    assert get(store).spec.replicas == 7
    words(store, pool(replicas=5))
    assert get(store).spec.replicas == 5


def test_an_override_ends_by_hand_or_with_the_declared_value() -> None:
    store = new_store()
    words(store, pool(replicas=3))
    override(store, 7, "")
    assert ended(get(store), "spec.replicas").spec.replicas == 3

    override(store, 3, "")
    assert get(store).spec.replicas == 3
    assert get(store).metadata.overrides == {}


def test_an_override_ends_at_its_time() -> None:
    store = new_store()
    words(store, pool(replicas=3))
    override(store, 7, "2026-01-01T01:00:00.000Z")

    later = NOW + timedelta(hours=1)
    (applied,) = apply(store, [pool(replicas=3)], SOURCE, False, "tester", later)

    assert applied.word == "configured"
    assert get(store).spec.replicas == 3
    assert get(store).metadata.overrides == {}


def test_pruning_marks_what_its_source_no_longer_declares_and_nothing_else() -> None:
    store = new_store()
    kept = [pool(f"p{index}") for index in range(4)]
    words(store, *kept, pool("old"))
    words(store, pool("foreign", source="/other"), source="/other")
    words(store, pool("manual", source=""), source="")

    assert words(store, *kept)[-1] == "pool/p3 unchanged"
    assert words(store, *kept, prune=True)[-1] == "pool/old pruned"

    assert [item.name for item in store.all(Pool) if item.metadata.deleted_at is not None] == ["old"]
    assert "pool/old pruned" not in words(store, *kept, prune=True)


def test_pruning_spares_what_says_so() -> None:
    store = new_store()
    words(store, pool(), pool("old", annotations="{reconciler/prune: disabled}"))

    assert words(store, pool(), prune=True) == ["pool/web unchanged"]


def test_a_prune_of_more_than_half_and_at_least_three_is_refused_as_a_whole() -> None:
    store = new_store()
    words(store, *(pool(f"p{index}") for index in range(5)))
    store.commit()

    with pytest.raises(Refused, match="3 of the 5 objects"):
        words(store, pool("p0", replicas=9), pool("p1"), prune=True)
    assert not store.staged

    assert len(words(store, *(pool(f"p{index}") for index in range(3)), prune=True)) == 5


def test_two_of_two_may_be_pruned() -> None:
    store = new_store()
    words(store, pool("a"), pool("b"))

    assert words(store, prune=True) == ["pool/b pruned", "pool/a pruned"]


def test_pruning_needs_a_source() -> None:
    with pytest.raises(Invalid):
        words(new_store(), source="", prune=True)


def test_an_event_says_who_applied_what_from_where() -> None:
    store = new_store()
    words(store, pool())
    words(store, pool())

    (said,) = store.events("pool/web")

    assert (said.reason, said.cause.actor, said.cause.path, said.cause.revision) == (
        "Created",
        "tester",
        "web.yaml",
        "r1",
    )


def test_what_a_source_declared_that_is_read_no_longer_is_taken_over_and_not_from_one_that_is() -> None:
    store = new_store()
    words(store, pool(source="/old"), source="/old")
    with pytest.raises(Conflict, match="of /old"):
        apply(store, [pool(replicas=2)], SOURCE, False, "source", NOW, [SOURCE, "/old"])
    (taken,) = apply(store, [pool(replicas=2)], SOURCE, False, "source", NOW, [SOURCE])
    assert taken.word == "configured" and get(store).spec.replicas == 2
    origin = get(store).metadata.source
    assert origin is not None and origin.source == SOURCE
