"""Comments that silence a warning: where they hold, and what they cannot do."""

from __future__ import annotations

import pytest

from reconciler.loading.parse import SourceFile
from reconciler.loading.validate import load

HEAD = "apiVersion: reconciler/v1\nkind: Pool\nmetadata: {name: web}\nspec:\n"
PORT = "    ports: [{name: http, base: 40000}]"
MARK = "# reconciler: ignore[ephemeral-port]"


def rules_of(text: str) -> list[str]:
    return [problem.rule for problem in load([SourceFile("a.yaml", text.encode())]).problems]


def pool(*lines: str) -> str:
    return "\n".join((HEAD + "  template:\n    command: [serve]", *lines, ""))


@pytest.mark.parametrize(
    "lines",
    [
        [f"{PORT}  {MARK}"],
        [f"{PORT}  # they are ours: sysctl.d/ports.conf  {MARK}"],
        [f"    {MARK}", PORT],
        [MARK, "", "    # another comment", PORT],
        [f"{PORT}  # reconciler: ignore[shell-word, ephemeral-port]"],
        [f"{PORT}  #reconciler:ignore[ephemeral-port]"],
    ],
)
def test_a_comment_in_or_above_the_line_silences_it(lines: list[str]) -> None:
    assert "ephemeral-port" not in rules_of(pool(*lines))


def test_it_holds_for_its_line_and_rule_only() -> None:
    assert rules_of(pool(PORT, f"    user: web  {MARK}")) == ["ephemeral-port", "ignore"]
    assert rules_of(pool(f"{PORT}  # reconciler: ignore[shell-word]")) == ["ephemeral-port", "ignore"]


@pytest.mark.parametrize(
    "value", [f'"{MARK}"', f"'{MARK}'", f"|\n          {MARK}\n          x", f">-\n          x\n          {MARK}"]
)
def test_a_value_is_no_comment(value: str) -> None:
    assert rules_of(pool("    env:\n      - name: A\n        value: " + value)) == []
    assert rules_of(pool(f"    env:\n      - name: A\n        value: {value}", PORT)) == ["ephemeral-port"]


def test_a_comment_behind_the_bar_of_a_block_is_one() -> None:
    said = "ignore[plain-secret]"

    assert rules_of(pool(f"    env:\n      - name: TOKEN\n        value: |  # reconciler: {said}\n          x")) == []


def test_an_error_cannot_be_ignored() -> None:
    text = pool("    usr: web  # reconciler: ignore[unknown-field]")

    assert rules_of(text) == ["unknown-field", "ignore"]
    assert not load([SourceFile("a.yaml", text.encode())]).valid


def test_a_file_without_objects_can_say_that_it_is_meant() -> None:
    assert rules_of("# later\n# reconciler: ignore[empty]\n") == []


def test_a_comment_is_not_called_idle_while_errors_hide_what_it_is_for() -> None:
    assert rules_of(pool(f"{PORT}  {MARK}", "    usr: web")) == ["unknown-field"]


def test_a_megabyte_of_such_comments_takes_no_longer_than_any_other(  # a quadratic search would take hours
) -> None:
    many = pool(PORT) + f"{MARK}\n" * 25_000

    assert len(rules_of(many)) == 101


def test_a_hundred_warnings_never_push_out_an_error() -> None:
    warned = "---\n".join(
        pool(PORT).replace("web", f"web-{index}").replace("40000", str(40000 + index)) for index in range(200)
    )
    wrong = warned + "---\n" + pool("    usr: x")

    assert not load([SourceFile("a.yaml", wrong.encode())]).valid
    assert rules_of(wrong).count("unknown-field") == 1
