"""What a person sees in an editor: a real language server with the schemas that are shipped."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_spec = importlib.util.spec_from_file_location("language_server", Path(__file__).with_name("language_server.py"))
assert _spec is not None and _spec.loader is not None
language_server = importlib.util.module_from_spec(_spec)
sys.modules["language_server"] = language_server
_spec.loader.exec_module(language_server)

GOOD = """\
apiVersion: reconciler/v1
kind: Pool
metadata: {name: web}
spec:
  replicas: 2
  template:
    command: [serve, "$(PORT)"]
    ports: [{name: http, base: 8000}]
    stop: {signal: SIGTERM, gracePeriod: 1m30s}
    logs: {maxSize: 10Mi}
  restart:
    policy: OnFailure
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    directory = language_server.cache()
    missing = language_server.install(directory)
    if missing:
        pytest.skip(missing)
    with language_server.LanguageServer(directory, tmp_path_factory.mktemp("root")) as running:
        yield running


def written(place: Path, text: str) -> Path:
    """A manifest that names its schema as people do, in its first line."""
    file = place / "m.yaml"
    file.write_text(f"# yaml-language-server: $schema={(ROOT / 'schemas' / 'all.json').as_uri()}\n{text}")
    return file


def test_a_good_manifest_has_nothing_to_say(server: Any, tmp_path: Path) -> None:
    assert server.problems(written(tmp_path, GOOD)) == []


@pytest.mark.parametrize("file", sorted((ROOT / "manifests").glob("*.yaml")), ids=lambda file: file.stem)
def test_what_is_shipped_has_nothing_to_say(server: Any, tmp_path: Path, file: Path) -> None:
    assert server.problems(written(tmp_path, file.read_text())) == []


@pytest.mark.parametrize(
    ("right", "wrong", "line", "word"),
    [
        ("replicas: 2", "replcas: 2", 6, "replcas"),
        ("replicas: 2", "replicas: two", 6, "integer"),
        ("replicas: 2", "replicas: 100000", 6, "10000"),
        ("kind: Pool", "kind: Pol", 3, "Pool"),
        ("gracePeriod: 1m30s", "gracePeriod: 90", 10, "string"),
        ("gracePeriod: 1m30s", "gracePeriod: soon", 10, "1h30m"),
        ("policy: OnFailure", "policy: Sometimes", 13, "OnFailure"),
        ("{name: web}", "{}", 4, "name"),
    ],
)
def test_a_mistake_is_marked_in_its_line(
    server: Any, tmp_path: Path, right: str, wrong: str, line: int, word: str
) -> None:
    problems = server.problems(written(tmp_path, GOOD.replace(right, wrong)))

    assert any(at == line and word in message for at, message in problems), problems


@pytest.mark.parametrize(
    ("right", "expression"),
    [
        ("{name: web}", '{name: "web-${{ region }}", labels: "${{ labels }}"}'),
        ("replicas: 2", "replicas: ${{ web.replicas }}"),
        ('[serve, "$(PORT)"]', "${{ command }}"),
        ("[{name: http, base: 8000}]", '[{name: http, base: "${{ base }}"}]'),
        ("gracePeriod: 1m30s", 'gracePeriod: "${{ web.grace }}s"'),
        ("{maxSize: 10Mi}", "${{ logs }}"),
        ("policy: OnFailure", "policy: ${{ web.policy }}"),
    ],
)
def test_an_expression_stands_wherever_a_value_does(server: Any, tmp_path: Path, right: str, expression: str) -> None:
    assert right in GOOD
    assert server.problems(written(tmp_path, GOOD.replace(right, expression))) == []


def test_what_only_looks_like_an_expression_is_marked(server: Any, tmp_path: Path) -> None:
    (problem,) = server.problems(written(tmp_path, GOOD.replace("replicas: 2", "replicas: ${ web.replicas }")))
    assert problem == (6, "expected an integer, or ${{ an expression }}")


def test_fields_are_offered_and_described(server: Any, tmp_path: Path) -> None:
    file = written(tmp_path, GOOD + "  \n")
    server.problems(file)

    offered = server.ask("completion", file, 14, 3)
    items = offered["items"] if isinstance(offered, dict) else offered
    assert {"strategy", "tasks"} <= {item["label"] for item in items}
    hover = server.ask("hover", file, 6, 5)
    assert "Workers, or slots for tasks" in str(hover["contents"])
