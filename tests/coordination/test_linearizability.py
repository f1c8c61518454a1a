"""The checker itself: it lets good histories pass, and no bad one."""

from __future__ import annotations

from tests.coordination.linearizability import Op, lapse, linearizable


def acquire(called: float, returned: float, token: int) -> Op:
    return Op(called, returned, "acquire", token)


def release(called: float, returned: float, token: int, ok: bool = True) -> Op:
    return Op(called, returned, "release", token, ok)


def test_one_after_the_other_is_a_lock() -> None:
    assert linearizable([acquire(0, 1, 1), release(2, 3, 1), acquire(4, 5, 2), release(6, 7, 2)])


def test_a_wait_that_spans_the_release_is_a_lock() -> None:
    assert linearizable([acquire(0, 1, 1), acquire(0.5, 3, 2), release(2, 4, 1)])


def test_two_holders_at_once_are_none() -> None:
    assert not linearizable([acquire(0, 1, 1), acquire(2, 3, 2), release(4, 5, 1), release(6, 7, 2)])


def test_two_holders_at_once_are_one_when_the_first_may_have_lost_it() -> None:
    assert linearizable([acquire(0, 1, 1), lapse(1, 1), acquire(2, 3, 2), release(4, 5, 1, ok=False), release(6, 7, 2)])


def test_a_token_that_falls_or_comes_twice_is_none() -> None:
    assert not linearizable([acquire(0, 1, 2), release(2, 3, 2), acquire(4, 5, 1)])
    assert not linearizable([acquire(0, 1, 2), release(2, 3, 2), acquire(4, 5, 2)])


def test_a_release_that_was_refused_to_the_holder_is_none() -> None:
    assert not linearizable([acquire(0, 1, 1), release(2, 3, 1, ok=False)])


def test_a_release_that_somebody_elses_token_made_is_none() -> None:
    assert not linearizable([acquire(0, 1, 1), release(2, 3, 7), release(4, 5, 1)])


def test_a_long_history_is_checked_in_time() -> None:
    history = []
    for token in range(1, 200):
        history += [acquire(token - 1, token + 0.5, token), release(token + 0.4, token + 1.1, token)]
    assert linearizable(history)
