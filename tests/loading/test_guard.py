"""What a source may take away in one go."""

from __future__ import annotations

import pytest

from reconciler.loading.guard import deserves_second_look, prune_refusal
from reconciler.resources.meta import Key, Metadata
from reconciler.resources.pool import Pool, PoolSpec


def keys(count: int) -> list[Key]:
    return [Key("Pool", f"p{number}") for number in range(count)]


@pytest.mark.parametrize(("gone", "own"), [(0, 0), (1, 1), (2, 2), (3, 6), (50, 100)])
def test_few_or_the_smaller_part_may_go(gone: int, own: int) -> None:
    assert prune_refusal(keys(gone), own, "/srv") == ""


@pytest.mark.parametrize(("gone", "own"), [(3, 3), (3, 5), (51, 100)])
def test_more_than_half_and_at_least_three_are_refused_by_name(gone: int, own: int) -> None:
    refused = prune_refusal(keys(gone), own, "/srv")

    assert refused.startswith(f"{gone} of the {own} objects of /srv would be pruned: pool/p0, pool/p1, pool/p2")


def test_a_directory_made_anew_may_not_take_everything_however_little_that_is() -> None:
    assert "made anew" in prune_refusal(keys(1), 1, "/srv", replaced=True)
    assert prune_refusal(keys(1), 2, "/srv", replaced=True) == ""
    assert prune_refusal([], 0, "/srv", replaced=True) == ""


@pytest.mark.parametrize(
    ("old", "new", "again"), [(10, 1, True), (10, 4, True), (10, 5, False), (1, 2, False), (2, 1, False)]
)
def test_a_pool_that_loses_most_of_its_workers_is_read_once_more(old: int, new: int, again: bool) -> None:
    before, after = (Pool(metadata=Metadata(name="web"), spec=PoolSpec(replicas=count)) for count in (old, new))

    assert deserves_second_look(before, after) is again
    assert deserves_second_look(None, after) is False
