"""Numbers in sentences: 1 worker, 2 workers; once, 3 times. Light, for commands that load nothing else use it too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


def many(number: int, word: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {word}" + ("" if number == 1 else "s")


def are(number: int, word: str) -> str:
    """`1 task is`, `2 tasks are`."""
    return f"{many(number, word)} {'is' if number == 1 else 'are'}"


def in_a_row(number: int) -> str:
    """`once`, `3 times in a row`."""
    return "once" if number == 1 else f"{number} times in a row"


def override_notes(overrides: Mapping[str, str]) -> Iterator[str]:
    """Each override of a field in words: {"spec.replicas": until when, or ""}."""
    for path, until in sorted(overrides.items()):
        bound = f" or at {until}" if until else ""
        yield f"{path} is overridden until what is declared for it changes{bound}"
