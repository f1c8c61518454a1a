"""A key has one owner, everywhere; few keys move; nobody gets too much."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.coordination.ring import Ring

KEYS = [f"key-{number}" for number in range(2000)]
NAMES = st.lists(st.from_regex(r"[a-z]{1,8}-[0-9]{1,2}", fullmatch=True), min_size=1, max_size=8, unique=True)


def ring(*names: str, virtual_nodes: int = 128) -> Ring:
    return Ring([(name, 1) for name in names], virtual_nodes)


def test_the_owner_is_the_same_in_every_process_and_version() -> None:
    assert [ring("w-0", "w-1", "w-2").owner(key) for key in ("a", "b", "c", "d")] == ["w-1", "w-0", "w-0", "w-1"]


@given(NAMES, st.text(max_size=20))
def test_the_order_in_which_names_are_given_does_not_matter(names: list[str], key: str) -> None:
    assert ring(*names, virtual_nodes=8).owner(key) == ring(*reversed(names), virtual_nodes=8).owner(key)


@given(NAMES, st.text(max_size=20))
def test_a_key_moves_only_from_who_goes_and_to_who_comes(names: list[str], key: str) -> None:
    before, after = ring(*names, virtual_nodes=8), ring(*names, "another-100", virtual_nodes=8)

    assert after.owner(key) in (before.owner(key), "another-100")


@given(NAMES, st.text(max_size=20))
def test_all_names_stand_in_for_an_owner_each_once(names: list[str], key: str) -> None:
    assert sorted(ring(*names, virtual_nodes=8).owners(key)) == sorted(names)


@pytest.mark.parametrize("count", [2, 4, 10])
def test_fault_E12_one_more_among_n_moves_about_its_share_of_the_keys(count: int) -> None:
    names = [f"w-{number}" for number in range(count)]
    before, after = ring(*names), ring(*names, "w-new")

    moved = sum(before.owner(key) != after.owner(key) for key in KEYS)

    assert 0.5 / (count + 1) < moved / len(KEYS) < 1.6 / (count + 1)


def test_keys_are_spread_by_weight() -> None:
    found = Counter(Ring([("a", 1), ("b", 3), ("c", 0)]).owner(key) for key in KEYS)

    assert 2.0 < found["b"] / found["a"] < 4.5 and found["c"] == 0


def test_fault_E12_an_empty_ring_has_no_owner_and_a_name_comes_once() -> None:
    assert Ring([]).owner("k") is None and Ring([("a", 0)]).bounded("k", {}, 1.25) is None
    with pytest.raises(ValueError, match="'a' is on the ring already"):
        ring("a", "a")
    with pytest.raises(ValueError, match="less than nothing"):
        Ring([("a", -1)])


@given(NAMES, st.lists(st.text(max_size=5), max_size=60), st.floats(1.01, 3))
def test_nobody_gets_more_than_the_factor_times_the_average(names: list[str], keys: list[str], factor: float) -> None:
    loads: Counter[str] = Counter()
    one = ring(*names, virtual_nodes=8)

    for key in keys:
        chosen = one.bounded(key, loads, factor)
        assert chosen is not None
        loads[chosen] += 1

    assert all(load <= factor * len(keys) / len(names) + 1 for load in loads.values())


def test_a_hot_key_makes_others_pass_its_owner_by() -> None:
    one = ring("w-0", "w-1", "w-2")
    hot = one.owner("hot")
    assert hot is not None
    others = [key for key in KEYS if one.owner(key) == hot]

    assert one.bounded(others[0], {hot: 70}, 1.25, floor=64) != hot
    assert one.bounded(others[0], {hot: 60}, 1.25, floor=64) == hot
