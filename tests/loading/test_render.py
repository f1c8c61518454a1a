"""Overlays, values and templates: what manifests become, and that every error stands where a person wrote it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from reconciler.errors import Invalid
from reconciler.loading.parse import SourceFile, parse
from reconciler.loading.problem import render_concise, render_full
from reconciler.loading.render import load, render
from reconciler.loading.template import WALL_S
from reconciler.loading.values import parse_set
from reconciler.loading.variant import Tree, Variant

WEB = """\
apiVersion: reconciler/v1
kind: Pool
metadata: {name: web}
spec:
  replicas: 6
  template:
    command: [serve]
    env:
      - {name: LEVEL, value: info}
      - {name: REGION, value: eu}
"""


AS_WRITTEN = Variant()


def tree(**files: str) -> Tree:
    """Files by their path: `overlays__dev__web_yaml` is overlays/dev/web.yaml."""
    named = {
        name.replace("__", "/").replace("_j2", ".j2").replace("_yaml", ".yaml"): text for name, text in files.items()
    }
    return Tree("m", [SourceFile(f"m/{name}", text.encode()) for name, text in named.items()])


def documents(variant: Variant = AS_WRITTEN, **files: str) -> list[Any]:
    """The values of all documents, of files without a problem."""
    rendered = render([tree(**files)], variant)
    assert [render_concise(problem) for problem in rendered.problems] == []
    return [document.value for _, parsed in rendered.files for document in parsed.documents]


def said(variant: Variant = AS_WRITTEN, **files: str) -> list[str]:
    """All that is wrong, without the helps."""
    return [
        render_concise(problem).rpartition(" (")[0] or render_concise(problem)
        for problem in load([tree(**files)], variant).problems
    ]


def spec(variant: Variant = AS_WRITTEN, **files: str) -> Any:
    return documents(variant, **files)[0]["spec"]


def pool(text: str) -> str:
    """A Pool with these lines as its spec's first."""
    return f"apiVersion: reconciler/v1\nkind: Pool\nmetadata: {{name: web}}\nspec:\n  {text}\n  template: {{command: [serve]}}\n"


# -- overlays


def test_an_overlay_merges_maps_deletes_by_null_merges_named_lists_and_replaces_others() -> None:
    patch = """\
kind: Pool
metadata: {name: web, labels: {tier: front}}
spec:
  replicas: null
  autoscale: {min: 1, max: 2, metrics: null}
  template:
    command: [serve, --debug]
    env:
      - {name: LEVEL, value: debug}
      - {name: MORE, value: "1"}
"""
    with pytest.raises(AssertionError, match="null deletes a field, and there is none"):
        documents(Variant("dev"), web_yaml=WEB, overlays__dev__web_yaml=patch)
    patch = patch.replace(", metrics: null", "")

    assert documents(Variant("dev"), web_yaml=WEB, overlays__dev__web_yaml=patch) == [
        {
            "apiVersion": "reconciler/v1",
            "kind": "Pool",
            "metadata": {"name": "web", "labels": {"tier": "front"}},
            "spec": {
                "template": {
                    "command": ["serve", "--debug"],
                    "env": [
                        {"name": "LEVEL", "value": "debug"},
                        {"name": "REGION", "value": "eu"},
                        {"name": "MORE", "value": "1"},
                    ],
                },
                "autoscale": {"min": 1, "max": 2},
            },
        }
    ]


def test_without_its_name_an_overlay_is_not_looked_at() -> None:
    assert spec(web_yaml=WEB, overlays__dev__web_yaml="}: not yaml")["replicas"] == 6
    assert (
        spec(Variant("prod"), web_yaml=WEB, overlays__dev__x_yaml="{", overlays__prod__y_yaml=_patch("replicas: 9"))[
            "replicas"
        ]
        == 9
    )


def _patch(line: str, name: str = "web") -> str:
    return f"kind: Pool\nmetadata: {{name: {name}}}\nspec:\n  {line}\n"


def test_a_patch_that_matches_nothing_is_an_error_with_the_nearest_name() -> None:
    problems = load([tree(web_yaml=WEB, overlays__dev__a_yaml=_patch("replicas: 1", "wbe"))], Variant("dev")).problems

    assert [render_concise(problem) for problem in problems] == [
        "m/overlays/dev/a.yaml:2:18: error[overlay]: metadata.name: there is no pool/wbe to change (did you mean pool/web?)"
    ]


def test_an_unknown_overlay_and_a_file_that_belongs_to_none_are_errors() -> None:
    assert said(Variant("prd"), web_yaml=WEB, overlays__prod__a_yaml="a: 1", overlays__b_yaml="b: 1") == [
        "m:1:1: error[overlay]: there is no overlay 'prd'",
        "m/overlays/b.yaml:1:1: error[overlay]: this belongs to no overlay",
    ]


def test_what_an_overlay_wrote_is_reported_in_the_overlay_and_the_rest_in_the_base() -> None:
    patch = (
        "kind: Pool\nmetadata: {name: web}\nspec:\n  replicas: three\n  template:\n    env: [{name: LEVEL, vlue: x}]\n"
    )
    base = WEB.replace("value: eu", "value: 3")

    assert said(Variant("dev"), web_yaml=base, overlays__dev__w_yaml=patch) == [
        "m/overlays/dev/w.yaml:4:13: error[type]: spec.replicas: expected a whole number, got 'three'",
        "m/overlays/dev/w.yaml:6:25: error[unknown-field]: spec.template.env[0].vlue: there is no such field",
        "m/web.yaml:10:31: error[type]: spec.template.env[1].value: expected a string, got 3",
    ]


def test_an_overlay_changes_one_place_of_what_an_alias_has_put_into_two() -> None:
    base = WEB.replace("command: [serve]", "command: [serve]\n    probes: &p {a: {x: 1}}\n    stop: *p")

    found = spec(Variant("d"), web_yaml=base, overlays__d__w_yaml=_patch("template: {stop: {a: {x: 2}}}"))["template"]

    assert (found["probes"], found["stop"]) == ({"a": {"x": 1}}, {"a": {"x": 2}})


# -- values and expressions


def test_a_lone_expression_gives_a_typed_value_and_one_in_text_gives_text() -> None:
    text = pool("""replicas: ${{ web.n + 1 }}
  restart: ${{ restart }}
  labels: [ "${{ flag }}", "a-${{ web.n }}-${{ flag }}", "${{ '}}' }}", '${{ web.n | string }}', '${{ "${{" }}' ]""")
    values = "web: {n: 2}\nflag: true\nrestart: {policy: Always, rules: [1, {a: 2}]}\n"

    found = spec(web_yaml=text, values_yaml=values)

    assert found["replicas"] == 3
    assert found["restart"] == {"policy": "Always", "rules": [1, {"a": 2}]}
    assert found["labels"] == [True, "a-2-true", "}}", "2", "${{"]


def test_later_values_win_the_overlays_then_files_then_set() -> None:
    text = pool("replicas: ${{ [a.x, a.y, a.z, a.w, a['items']] }}")
    files = {
        "web_yaml": text,
        "values_yaml": "a: {x: 1, y: 1, z: 1, w: 1, items: 1}",
        "overlays__d__values_yaml": "a: {y: 2, z: 2, w: 2}",
    }
    more = (SourceFile("more.yaml", b"a: {z: 3, w: 3}"),)

    assert spec(**files)["replicas"] == [1, 1, 1, 1, 1]
    assert spec(Variant("d", more, ("a.w=4",)), **files)["replicas"] == [1, 2, 3, 4, 1]


def test_set_reads_its_value_as_yaml_does() -> None:
    texts = ["a=3", "a=true", "a=no", "a=x: y", 'a="3"', "a=[1, {b: 2}]", "a=", "a.b.c=1.5", "a=010"]

    assert [parse_set(text)[1] for text in texts] == [3, True, "no", "x: y", "3", [1, {"b": 2}], "", 1.5, 10]
    assert parse_set("a.b.c=1")[0] == ["a", "b", "c"]
    for bad in ("a", "=1", "a..b=1", "1a=2", "a=[1", 'a="x'):
        with pytest.raises(Invalid):
            parse_set(bad)


def test_a_wrong_type_stands_at_its_expression_and_the_help_knows_it() -> None:
    text = pool("replicas: ${{ n }}\n  restart: ${{ restart }}").replace("serve]", '"${{ port }}"]')
    values = "n: three\nport: 8080\nrestart: {policy: Sometimes}\n"

    problems = load([tree(web_yaml=text, values_yaml=values)], Variant()).problems

    assert [render_concise(problem) for problem in problems] == [
        "m/web.yaml:5:13: error[type]: spec.replicas: expected a whole number, got 'three'"
        " (write it as a number: replicas: 3)",
        "m/web.yaml:6:12: error[value]: spec.restart.policy: expected Always, OnFailure or Never, got 'Sometimes'",
        "m/web.yaml:7:24: error[type]: spec.template.command[0]: expected a string, got 8080 (write ${{ port | string }})",
    ]


def test_fault_M21_a_missing_value_is_an_error_at_its_expression_once_for_each_use() -> None:
    text = pool("replicas: ${{ replcas }}\n  restart: {policy: 'On${{ x.y }}-${{ nothing }}'}")

    problems = load([tree(web_yaml=text, values_yaml="replicas: 1\nx: {}")], Variant()).problems

    assert [render_concise(problem) for problem in problems] == [
        "m/web.yaml:5:13: error[undefined-value]: spec.replicas: there is no value 'replcas' (did you mean replicas?)",
        "m/web.yaml:6:24: error[undefined-value]: spec.restart.policy: there is no 'y' in a map",
        "m/web.yaml:6:35: error[undefined-value]: spec.restart.policy: there is no value 'nothing'"
        " (give it in values.yaml, or with --set nothing=...)",
    ]
    assert render_full(problems[0]).splitlines()[1:3] == [
        "   5 |   replicas: ${{ replcas }}",
        "     |             ^^^^^^^^^^^^^^",
    ]


def test_an_expression_that_is_not_closed_or_is_a_key_or_a_map_in_text_is_an_error() -> None:
    text = pool('replicas: "${{ 1"\n  "${{ a }}": 1\n  restart: {policy: "x${{ {} }}"}')

    assert [line.split(": ", 2)[1:] for line in said(web_yaml=text)] == [
        ["error[template]", "spec.replicas: an expression is not closed with }}"],
        ["error[template]", "spec.${{ a }}: a key is no expression"],
        ["error[template]", "spec.restart.policy: a map cannot stand in text"],
    ]


def test_a_broken_file_of_values_is_said_once_and_not_at_each_use() -> None:
    assert said(web_yaml=pool("replicas: ${{ n }}"), values_yaml="n: [1\n") == [
        "m/values.yaml:2:1: error[syntax]: while parsing a flow sequence: did not find expected ',' or ']'"
    ]
    assert said(web_yaml=WEB, values_yaml=WEB) == [
        "m/values.yaml:2:1: error[values]: values.yaml holds values, not objects"
    ]
    assert said(web_yaml=WEB, values_yaml="a-b: 1") == [
        "m/values.yaml:1:1: error[values]: 'a-b' cannot be used as a name"
    ]


# -- whole templates

TEMPLATE = """\
{# every region its pool #}
{% for region in regions %}
---
apiVersion: reconciler/v1
kind: Pool
metadata: {name: web-{{ region.name }}}
spec:
  {% if region.big %}
  replicas: {{ region.replicas }}
  {% endif %}
  template:
    command: [serve, {{ region.title | tojson }}]
{% endfor %}
"""
REGIONS = 'regions: [{name: eu, big: true, replicas: 3, title: \'a: "b" # c\'}, {name: us, big: false, title: "x\\ny"}]'


def test_a_template_makes_documents_and_values_stay_what_they_are() -> None:
    found = [document for document in documents(web_yaml_j2=TEMPLATE, values_yaml=REGIONS) if document]

    assert [document["metadata"]["name"] for document in found] == ["web-eu", "web-us"]
    assert [document["spec"]["template"]["command"][1] for document in found] == ['a: "b" # c', "x\ny"]
    assert [document["spec"].get("replicas") for document in found] == [3, None]


def test_what_is_wrong_in_the_rendered_text_stands_at_the_templates_line() -> None:
    values = REGIONS.replace("replicas: 3", "replicas: three")
    text = TEMPLATE.replace("  template:", "  tmplate: {}\n  template:")

    assert said(web_yaml_j2=text, values_yaml=values) == [
        "m/web.yaml.j2:9:3: error[type]: spec.replicas: expected a whole number, got 'three'",
        "m/web.yaml.j2:11:3: error[unknown-field]: spec.tmplate: there is no such field",
    ]
    broken = TEMPLATE.replace("command: [serve", "command: ]serve")
    assert said(web_yaml_j2=broken, values_yaml=REGIONS)[0].startswith("m/web.yaml.j2:12:")


def test_an_object_of_a_template_knows_its_line_and_an_overlay_changes_it() -> None:
    text = TEMPLATE.replace("spec:", "spec:\n  restart: {policy: Never}")

    result = load(
        [tree(w_yaml_j2=text, values_yaml=REGIONS, overlays__d__w_yaml=_patch("replicas: 7", "web-us"))], Variant("d")
    )

    assert [(item.metadata.name, item.spec.replicas) for item in result.objects] == [("web-eu", 3), ("web-us", 7)]  # type: ignore[attr-defined]
    assert {item.metadata.source.line for item in result.objects if item.metadata.source} == {4}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\n{% if %}", "2:1: error[template]: Expected an expression, got 'end of statement block'"),
        ("a: 1\nb: {{ missing }}", "2:7: error[undefined-value]: there is no value 'missing'"),
        ("a: 1\n\nb: {{ regions[0].nme }}", "3:18: error[undefined-value]: there is no 'nme' in a map"),
        (
            "{% for x in regions %}\n{{ x.big.no }}\n{% endfor %}",
            "2:10: error[undefined-value]: there is no 'no' in True",
        ),
        ("a: {{ regions }}", "1:1: error[template]: a list cannot stand in text"),
        ("a: {{ regions[0].keys }}", "1:1: error[template]: a builtin_function_or_method is not a value"),
    ],
)
def test_fault_M21_a_wrong_template_is_an_error_at_its_line(text: str, expected: str) -> None:
    assert said(w_yaml_j2=text, values_yaml=REGIONS) == [f"m/w.yaml.j2:{expected}"]


@pytest.mark.parametrize(
    "expression",
    [
        "().__class__.__mro__", "''|attr('__class__')", "'{0.__class__}'.format(1)", "(['{0.__class__}']|map('format', 1)|list)",
        "lipsum.__globals__", "cycler.__init__.__globals__", "self.__init__", "namespace.__init__", "''['__class__']",
        "joiner.__init__.__globals__.os", "range.__self__", "dict.mro()", "request",
    ],
)  # fmt: skip
def test_fault_M22_no_expression_and_no_template_reaches_an_object(expression: str) -> None:
    for files in (
        {"w_yaml": pool(f'replicas: {{a: "${{{{ {expression} }}}}"}}'.replace("''", "'a'"))},
        {"w_yaml_j2": f"a: {{{{ {expression} }}}}"},
    ):
        rules = [problem.rule for problem in render([tree(**files)], Variant()).problems]
        assert rules in (["template"], ["undefined-value"]), expression


@pytest.mark.parametrize(
    ("bomb", "why"),
    [
        ("'a' * 2 ** 28", "it takes more than 256 MiB of memory"),
        ("'%268435456d' % 1", "it takes more than 256 MiB of memory"),
        ("range(100001) | list", "Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000)."),
        (
            "(9 ** (9 ** 9)) % 7",
            "it takes more than ",
        ),  # 2 s of processor time, or 30 s where it is given less than that
        ("'a' * 2 ** 20 * 2", None),
    ],
)
def test_fault_M23_a_bomb_ends_within_its_limits_and_is_named(bomb: str, why: str | None) -> None:
    started_s = time.monotonic()
    problems = render(
        [tree(w_yaml=pool(f"replicas: 1\n  x: ${{{{ {bomb} }}}}"), v_yaml=pool("replicas: ${{ 1 }}"))], Variant()
    ).problems

    assert [problem.rule for problem in problems] == ["template-limit"]
    assert why is None or problems[0].message.startswith(why)
    assert (problems[0].file, problems[0].line) == ("m/w.yaml", 6)
    assert time.monotonic() - started_s < 2 * WALL_S


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("a: 1\n{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", 1),
        ("a: 1\n{% macro m() %}\n{{ m() }}\n{% endmacro %}{{ m() }}", 3),
        ("{% for i in range(99999) %}{{ 'some text that is long enough' | tojson }}{% endfor %}", 1),
    ],
)
def test_fault_M23_a_template_that_never_ends_is_ended(template: str, line: int) -> None:
    (problem,) = render([tree(w_yaml_j2=template)], Variant()).problems

    assert (problem.rule, problem.line) == ("template-limit", line)


@pytest.mark.parametrize(
    "value",
    [
        "x\nuser: root",
        "x: y",
        "x #",
        "# x",
        "[a",
        "a, b",
        "{a",
        "'",
        '"',
        "*a",
        "- a",
        "a:",
        "\x85",
        "`",
        "...",
        "--- x",
    ],
)
def test_fault_M24_a_value_never_becomes_yaml(value: str) -> None:
    variant = Variant(values=(SourceFile("v.yaml", b"v: " + _quoted(value)),))

    assert spec(variant, w_yaml=pool("user: ${{ v }}\n  text: a-${{ v }}"))["text"] == f"a-{value}"
    (problem,) = render([tree(w_yaml_j2="a: {{ v }}\nb: [{{ v | tojson }}]")], variant).problems
    assert (problem.rule, problem.line, problem.help) == ("template", 1, "write {{ ... | tojson }}")
    (document,) = documents(variant, w_yaml_j2="b: [{{ v | tojson }}]")
    assert document == {"b": [value]}


def _quoted(value: str) -> bytes:
    import json

    return json.dumps(value).encode()


@pytest.mark.parametrize("value", ["web-1", "/srv/a b", "127.0.0.1:80", "a#b", "--flag=x", "50%", "é", "a&b"])
def test_a_plain_word_may_stand_in_a_template_as_it_is(value: str) -> None:
    variant = Variant(values=(SourceFile("v.yaml", b"v: " + _quoted(value)),))

    assert documents(variant, w_yaml_j2="a: {{ v }}\nb: {k: {{ v }}}\n") == [{"a": value, "b": {"k": value}}]


@pytest.mark.parametrize("tag", ["{% include '/etc/passwd' %}", "{% import 'x' as x %}", "{% extends '../x' %}"])
def test_fault_M25_a_template_loads_nothing(tag: str) -> None:
    (problem,) = render([tree(w_yaml_j2=f"a: 1\n{tag}\n")], Variant()).problems

    assert problem.rule == "template" and "no loader" in problem.message


def test_what_a_value_yields_is_not_evaluated_again_and_the_same_each_time() -> None:
    text = pool("text: ${{ v }}")
    values = "v: '${{ 1 + 1 }} {{ 2 }}'"

    assert spec(w_yaml=text, values_yaml=values)["text"] == "${{ 1 + 1 }} {{ 2 }}"
    assert said(w_yaml_j2="a: {{ [1, 2] | random }}") == [
        "m/w.yaml.j2:1:16: error[template]: No filter named 'random'."
    ]


def test_many_long_values_do_not_fill_the_memory_of_who_reads_them() -> None:
    text = pool("text: [" + ", ".join(['"${{ v * 1000 }}"'] * 3000) + "]")

    (problem,) = render([tree(w_yaml=text, values_yaml=f"v: {'x' * 900}")], Variant()).problems
    assert problem.rule == "template-limit"


def test_thousands_of_expressions_are_no_bomb() -> None:
    text = pool("text: [" + ", ".join(f'"${{{{ {number} + 1 }}}}"' for number in range(4000)) + "]")

    assert spec(w_yaml=text)["text"] == list(range(1, 4001))


def test_files_without_expressions_start_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.Popen", lambda *args, **kwargs: pytest.fail("a child was started"))

    assert documents(web_yaml=WEB, values_yaml="a: 1") == [parse(SourceFile("w", WEB.encode())).documents[0].value]


@pytest.mark.parametrize(
    ("given", "help"),
    [
        ("web.replicas=3", None),
        ("region=eu", None),
        ("sizes.large=9", None),
        ("web.replcas=3", "did you mean web.replicas?"),
        ("regoin=eu", "did you mean region?"),
        ("command=a", "remove it, or write ${{ NAME }} where it belongs"),
    ],
)
def test_a_value_that_is_set_and_used_nowhere_is_a_warning(given: str, help: str | None) -> None:
    text = """\
apiVersion: reconciler/v1
kind: Pool
metadata: {name: web}
spec:
  replicas: ${{ web.replicas }}
  template:
    command: [serve, "--in=${{ region }}", "${{ sizes | tojson }}"]
"""
    values = SourceFile("m/values.yaml", b"web: {replicas: 1}\nregion: us\nsizes: {large: 1}\n")
    found = load([Tree("m", [SourceFile("m/web.yaml", text.encode()), values])], Variant(sets=(given,)))
    assert found.valid
    said = [(problem.severity, problem.rule, problem.file, problem.help) for problem in found.problems]
    assert said == ([] if help is None else [("warning", "unused-value", f"--set {given.partition('=')[0]}", help)])
