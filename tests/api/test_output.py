"""Following output: where a reader stands after rotation, restarts and removals."""

from __future__ import annotations

from reconciler.api.output import Place, Seen, advance


def _at(seen: list[Seen]) -> Place:
    place = Place()
    place.move(seen)
    return place


def test_what_has_grown_is_new() -> None:
    place = _at([Seen("1.log", 7, 100, 1.0)])
    assert advance([Seen("1.log", 7, 150, 2.0)], place) == [("1.log", 7, 100, 150)]
    assert advance([Seen("1.log", 7, 150, 2.0)], place) == []


def test_rotation_moves_the_place_with_the_bytes() -> None:
    place = _at([Seen("1.log", 7, 100, 1.0)])
    rotated = [Seen("1.log.1", 8, 96, 2.0), Seen("1.log", 7, 34, 2.0)]
    assert advance(rotated, place) == [("1.log", 7, 4, 34)]


def test_rotation_beyond_the_place_leaves_nothing_out() -> None:
    place = _at([Seen("1.log", 7, 100, 1.0)])
    rotated = [Seen("1.log.1", 8, 160, 2.0), Seen("1.log", 7, 34, 2.0)]
    assert advance(rotated, place) == [("1.log.1", 8, 100, 160), ("1.log", 7, 0, 34)]


def test_two_rotations_between_two_looks_leave_nothing_out() -> None:
    place = _at([Seen("1.log", 7, 100, 1.0)])
    rotated = [Seen("1.log.2", 8, 64, 2.0), Seen("1.log.1", 9, 64, 3.0), Seen("1.log", 7, 34, 3.0)]
    assert advance(rotated, place) == [("1.log.1", 9, 36, 64), ("1.log", 7, 0, 34)]


def test_rotation_into_a_used_inode_number_is_noticed() -> None:
    place = _at([Seen("1.log.1", 8, 96, 1.0), Seen("1.log", 7, 100, 1.5)])
    rotated = [Seen("1.log.1", 8, 96, 2.0), Seen("1.log", 7, 10, 2.0)]
    assert advance(rotated, place) == [("1.log", 7, 4, 10)]


def test_an_old_part_that_is_dropped_changes_nothing() -> None:
    place = _at([Seen("1.log.1", 8, 96, 1.0), Seen("1.log", 7, 100, 1.5)])
    assert advance([Seen("1.log", 7, 120, 2.0)], place) == [("1.log", 7, 100, 120)]


def test_the_next_start_is_read_from_its_beginning() -> None:
    place = _at([Seen("1.log", 7, 100, 1.0)])
    assert advance([Seen("2.log", 9, 5, 2.0)], place) == [("2.log", 9, 0, 5)]


def test_nothing_there_yet_is_nothing_to_read() -> None:
    place = _at([])
    assert advance([], place) == []
    assert advance([Seen("1.log", 7, 3, 1.0)], place) == [("1.log", 7, 0, 3)]
