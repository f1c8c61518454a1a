"""Manifests as resources, or all that is wrong with them."""

from __future__ import annotations

import pytest

from reconciler.loading.parse import SourceFile
from reconciler.loading.problem import Problem, escape, render_concise, render_count, render_full
from reconciler.loading.validate import LoadResult, load
from reconciler.resources.pool import Pool

POOL = """\
apiVersion: reconciler/v1
kind: Pool
metadata: {name: web, labels: {team: shop}}
spec:
  replicas: 3
  template:
    command: [python3, -m, http.server, "$(PORT)", $$HOME, "$(SHOP)"]
    env: [{name: SHOP, value: "$(HOME)/shop"}]
    ports: [{name: http, base: 8000}]
    stop: {gracePeriod: 1m30s}
    logs: {maxSize: 1Mi}
    cleanup: {files: ["/run/$(RECONCILER_WORKER).sock"]}
  restart: {policy: OnFailure, backoff: {factor: 3}}
"""


def read(*texts: str) -> LoadResult:
    return load([SourceFile(f"{index}.yaml", text.encode()) for index, text in enumerate(texts)])


def test_a_pool_is_read_with_its_units_and_its_origin() -> None:
    (pool,) = load([SourceFile("/srv/m/web.yaml", b"# hello\n" + POOL.encode())], "/srv/m", "abc").objects

    assert isinstance(pool, Pool)
    assert (pool.name, pool.spec.replicas, pool.metadata.labels) == ("web", 3, {"team": "shop"})
    assert pool.spec.template.stop.grace_period_s == 90.0
    assert pool.spec.template.logs.max_size_bytes == 1 << 20
    assert pool.spec.restart.backoff.factor == 3.0
    origin = pool.metadata.source
    assert origin is not None
    assert (origin.path, origin.line, origin.source, origin.revision) == ("web.yaml", 2, "/srv/m", "abc")


def test_a_pool_comes_back_the_same_from_its_own_json() -> None:
    (pool,) = read(POOL).objects

    assert Pool.model_validate_json(pool.model_dump_json(by_alias=True, exclude_none=True)) == pool


def test_json_is_read_too() -> None:
    text = '{"apiVersion": "reconciler/v1", "kind": "Pool", "metadata": {"name": "a"}, "spec": {"tasks": {}}}'

    assert read(text).problems == ()


def test_fault_M1_a_half_written_file_is_an_error_and_never_a_smaller_pool() -> None:
    valid = [end for end in range(len(POOL)) if read(POOL[:end]).valid and read(POOL[:end]).objects]

    # cut behind the command the rest is optional: only waiting for quiet can tell that (M2)
    assert all(end > POOL.index("$(SHOP)") for end in valid)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "---\n---\n...\n", "\n\n"])
def test_fault_M11_a_file_without_objects_is_a_warning(text: str) -> None:
    result = read(text)

    assert [render_concise(problem) for problem in result.problems] == [
        "0.yaml:1:1: warning[empty]: the file holds no objects (remove it, or add an object)"
    ]
    assert result.valid


@pytest.mark.parametrize("text", ["hello", "3", "[a, b]"])
def test_fault_M11_a_scalar_or_a_list_is_refused(text: str) -> None:
    assert [problem.rule for problem in read(text).problems] == ["type"]


def test_fault_M12_one_bad_document_makes_the_whole_result_invalid() -> None:
    result = read(POOL + "---\n" + POOL.replace("web", "api").replace("3", "x", 1).replace("8000", "9000"))

    assert not result.valid
    assert [(problem.rule, problem.line) for problem in result.problems] == [("type", 19)]


@pytest.mark.parametrize(
    ("field", "meant"), [("replcas", "replicas"), ("Replicas", "replicas"), ("templat", "template"), ("task", "tasks")]
)
def test_fault_M13_an_unknown_field_is_refused_with_the_name_that_was_meant(field: str, meant: str) -> None:
    (problem,) = read(POOL + f"  {field}: 1\n").problems

    assert (problem.rule, problem.path) == ("unknown-field", f"spec.{field}")
    assert problem.help == f"did you mean {meant}?"
    assert (problem.line, problem.column, problem.end_column) == (14, 3, 3 + len(field))


@pytest.mark.parametrize("value", ["no", "'3'", "1_000", "1:30", "2020-01-01", ".nan", "1e3", "3.0", "true", "[3]", ""])
def test_fault_M14_nothing_is_coerced_into_a_number(value: str) -> None:
    (problem,) = read(POOL.replace("replicas: 3", f"replicas: {value}")).problems

    assert (problem.rule, problem.path, problem.line) == ("type", "spec.replicas", 5)


@pytest.mark.parametrize("value", ["012", "1e3", "true", "1.5"])
def test_fault_M14_nothing_is_coerced_into_a_string(value: str) -> None:
    (problem,) = read(POOL.replace('"$(HOME)/shop"', value)).problems

    assert (problem.rule, problem.path) == ("type", "spec.template.env[0].value")


def test_fault_M14_nothing_is_no_value() -> None:
    (problem,) = read(POOL.replace('"$(HOME)/shop"', "~")).problems

    assert (problem.rule, problem.path) == ("missing-field", "spec.template.env[0]")


@pytest.mark.parametrize("value", ["-1", "10001", "1000000000"])
def test_replicas_have_bounds(value: str) -> None:
    assert [problem.rule for problem in read(POOL.replace("replicas: 3", f"replicas: {value}")).problems] == ["range"]


def test_fault_M18_the_same_name_in_two_files_is_refused_and_both_places_are_named() -> None:
    (problem,) = read(POOL, "\n" + POOL.replace("8000", "9000")).problems

    assert problem.rule == "duplicate-object"
    assert (problem.file, problem.line) == ("1.yaml", 4)
    assert "0.yaml:3:18" in problem.message


@pytest.mark.parametrize(
    "name", ["../../x", "a/b", "a" * 64, "a" * 300, "Web", "-a", "a-", "a_b", "a.b", "ä", "a\u200bb", "''", '"a\\n"']
)
def test_fault_M19_a_name_that_could_be_a_path_or_a_trick_is_refused(name: str) -> None:
    (problem,) = read(POOL.replace("name: web", f"name: {name}")).problems

    assert (problem.rule, problem.path) == ("name", "metadata.name")
    assert render_concise(problem).isprintable()


def test_fault_P5_an_argument_as_long_as_linux_takes_is_accepted_and_one_byte_more_is_not() -> None:
    def with_argument(count: int) -> LoadResult:
        return read(POOL.replace("$$HOME", "x" * count))

    assert with_argument(131_071).problems == ()
    assert [problem.rule for problem in with_argument(131_072).problems] == ["argument-too-long"]
    assert [problem.rule for problem in read(POOL.replace("$$HOME", "é" * 65_536)).problems] == ["argument-too-long"]


def test_fault_P5_a_variable_counts_with_its_name() -> None:
    def with_value(count: int) -> list[str]:
        return [problem.rule for problem in read(POOL.replace("$(HOME)/shop", "x" * count)).problems]

    assert with_value(131_071 - len("SHOP=")) == []
    assert with_value(131_072 - len("SHOP=")) == ["argument-too-long"]
    assert with_value(200_000) == ["argument-too-long"]


@pytest.mark.parametrize("place", ["$$HOME", '"$(HOME)/shop"', '"/run/$(RECONCILER_WORKER).sock"'])
def test_fault_P7_a_nul_for_a_process_is_refused_by_validation(place: str) -> None:
    problems = read(POOL.replace(place, '"/a\\0b"')).problems

    assert [problem.rule for problem in problems] == ["nul"]


@pytest.mark.parametrize(
    ("variable", "known"),
    [
        ("PORT", True), ("PORT_HTTP", True), ("RECONCILER_ORDINAL", True), ("HOME", True), ("PATH", True),
        ("SHOP", True), ("NOPE", False), ("RECONCILER_TASK", False), ("PORT_OTHER", False),
    ],
)  # fmt: skip
def test_a_variable_of_the_process_is_known_by_name(variable: str, known: bool) -> None:
    problems = read(POOL.replace("$$HOME", f"$({variable})")).problems

    assert [problem.rule for problem in problems] == ([] if known else ["variable"])


def test_a_doubled_dollar_is_text() -> None:
    assert read(POOL.replace("$$HOME", "$$(NOPE)")).problems == ()


def test_one_fixed_port_is_for_one_worker_or_for_a_pool_with_sockets() -> None:
    fixed = POOL.replace("base: 8000", "port: 8000")

    assert [problem.rule for problem in read(fixed).problems] == ["port-clash"]
    assert read(fixed.replace("replicas: 3", "replicas: 1")).problems == ()
    held = fixed.replace("    logs:", '    sockets: [{name: http, listen: "127.0.0.1:8000"}]\n    logs:')
    assert read(held).problems == ()


def test_ports_of_two_pools_that_overlap_are_refused_and_neighbours_are_not() -> None:
    other = POOL.replace("web", "api")

    assert read(POOL, other.replace("8000", "8003")).problems == ()
    (problem,) = read(POOL, other.replace("8000", "8002")).problems
    assert problem.message == "port 8002 also taken by pool/web at 0.yaml:9:32"


def test_one_address_is_held_for_one_pool() -> None:
    def listening(*addresses: str) -> list[str]:
        pool = POOL.replace("    ports: [{name: http, base: 8000}]\n", "").replace('"$(PORT)", ', "")
        texts = [
            pool.replace("web", f"p{index}").replace(
                "    logs:", f'    sockets: [{{name: a, listen: "{at}"}}]\n    logs:'
            )
            for index, at in enumerate(addresses)
        ]
        return [problem.rule for problem in read(*texts).problems]

    assert listening("127.0.0.1:80", "127.0.0.2:80", "[::1]:80", "/run/a.sock", "/run/b.sock", "127.0.0.1:81") == []
    assert listening("127.0.0.1:80", "localhost:80") == ["socket"]
    assert listening("0.0.0.0:80", "127.0.0.2:80") == ["socket"]
    assert listening("[::]:80", "[::1]:80") == ["socket"]
    assert listening("/run/a.sock", "/run/a.sock") == ["socket"]


def test_the_full_form_has_a_caret_under_the_token_and_the_help() -> None:
    (problem,) = read(POOL.replace("replicas: 3", "replicas: three")).problems

    assert render_full(problem) == (
        "0.yaml:5:13: error[type]: spec.replicas: expected a whole number, got 'three'\n"
        "   5 |   replicas: three\n"
        "     |             ^^^^^\n"
        "   = help: write it as a number: replicas: 3"
    )


def test_the_caret_counts_cells_and_long_lines_are_cut() -> None:
    wide = Problem("a.yaml", 1, 5, 7, "r", "m", snippet="日本: xy")
    assert render_full(wide).splitlines()[2] == "     |       ^^"
    long = Problem("a.yaml", 1, 100_001, 100_004, "r", "m", snippet="x" * 100_000 + "abc" + "y" * 100_000)
    shown, caret = render_full(long).splitlines()[1:]
    assert len(shown) < 200
    assert shown[caret.index("^") : caret.rindex("^") + 1] == "abc"


def test_the_closing_line_counts() -> None:
    error = Problem("a.yaml", 1, 1, 2, "r", "m")
    warning = Problem("b.yaml", 1, 1, 2, "r", "m", severity="warning")

    assert render_count([]) == "no problems"
    assert render_count([error]) == "1 error in 1 file"
    assert render_count([error, error, warning]) == "2 errors, 1 warning in 2 files"


def test_nothing_of_a_manifest_can_steer_the_terminal() -> None:
    assert escape("a\x1b[31m\u202eb\n") == "a\\x1b[31m\\u202eb\\n"
    (problem,) = read(POOL.replace("web", '"\\e[2J\\u202e"')).problems
    assert render_concise(problem).isprintable()


def test_a_problem_survives_the_way_over_json() -> None:
    for problem in read("a: 1", "").problems:
        assert Problem.from_json(problem.to_json()) == problem


def test_a_file_full_of_mistakes_gives_a_hundred_and_says_so() -> None:
    for text in (
        "1: a\n" * 10_000,
        POOL.replace("{team: shop}", "{" + "".join(f"a{i}: 1, " for i in range(5000)) + "}"),
    ):
        problems = read(text).problems
        assert 100 <= len(problems) <= 101
    assert read("1: a\n" * 10_000).problems[-1].message == "more than 100 problems in one file"


def test_a_mistake_of_a_megabyte_is_said_in_a_line() -> None:
    for text in ("a: !" + "x" * 900_000 + " 1", "? " + "x" * 900_000 + "\n: 1", POOL.replace("web", "x" * 900_000)):
        for problem in read(text).problems:
            assert len(render_full(problem)) < 5000


def test_fault_P5_command_and_variables_have_a_limit_together() -> None:
    argument = "x" * 130_000
    many = POOL.replace("$$HOME", f"&x {argument}" + ", *x" * 20)

    assert [problem.rule for problem in read(many).problems] == ["argument-too-long"]
    assert read(many.replace(", *x" * 20, ", *x" * 10)).problems == ()


def test_documents_before_a_syntax_error_are_validated_too() -> None:
    problems = read(POOL.replace("replicas: 3", "replicas: x") + "---\n" + "a: [\n").problems

    assert [problem.rule for problem in problems] == ["type", "syntax"]


def test_fault_M5_a_merge_key_is_refused_and_overrides_nothing() -> None:
    result = read(POOL.replace("  replicas: 3", "  <<: {replicas: 9}\n  replicas: 3"))

    assert [problem.rule for problem in result.problems] == ["merge-key"] and not result.valid
    assert all(isinstance(obj, Pool) and obj.spec.replicas == 3 for obj in result.objects)
    assert read(POOL.replace("HOME", "<<", 1)).problems == ()  # as a value it is text


def test_fault_M6_a_bomb_of_aliases_is_refused_before_anybody_walks_it() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 11))

    assert len(bomb) < 1000
    assert [problem.rule for problem in read(bomb).problems] == ["limit"]


def test_fault_M7_an_alias_inside_what_it_stands_for_is_refused() -> None:
    for text in (
        "&a [*a]",
        "a: &a {b: [*a]}",
        POOL.replace("spec:", "spec: &s").replace("replicas: 3", "replicas: *s"),
    ):
        assert [problem.rule for problem in read(text).problems] == ["alias"]


@pytest.mark.parametrize("names", ["a", "ab", "abc"])
def test_fault_M20_a_circle_of_dependencies_is_refused_with_its_path(names: str) -> None:
    texts = [
        f"apiVersion: reconciler/v1\nkind: Pool\nmetadata: {{name: {name}}}\nspec:\n  template: {{command: [sleep, inf]}}\n"
        f"  dependsOn: [{{kind: Pool, name: {names[(index + 1) % len(names)]}, condition: Started}}]\n"
        for index, name in enumerate(names)
    ]
    problems = read(*texts).problems

    assert [problem.rule for problem in problems] == ["cycle"]
    assert all(f"pool/{name}" in problems[0].message for name in names)


def test_fault_M43_a_schedule_that_never_comes_is_refused() -> None:
    from reconciler.resources.kinds import WRITABLE

    if "CronJob" not in WRITABLE:
        pytest.skip("the kind CronJob is not built yet: it is refused as a whole")
    for schedule in ("0 0 30 2 *", "61 * * * *", "now and then"):
        assert not read(
            f"apiVersion: reconciler/v1\nkind: CronJob\nmetadata: {{name: a}}\nspec:\n  schedule: {schedule!r}\n"
            "  jobTemplate: {template: {command: [sleep, inf]}}\n"
        ).valid


@pytest.mark.parametrize("replicas", [-1, 10_001, 10**9, 10**99])
def test_fault_M44_no_slip_of_the_finger_starts_a_billion_processes(replicas: int) -> None:
    assert [problem.rule for problem in read(POOL.replace("replicas: 3", f"replicas: {replicas}")).problems] == [
        "range"
    ]


def test_fault_M44_zero_is_a_number_of_workers_and_a_huge_environment_is_not_one() -> None:
    assert read(POOL.replace("replicas: 3", "replicas: 0")).problems == ()
    many = ", ".join(f"{{name: A{index}, value: x}}" for index in range(4097))
    (problem,) = read(POOL.replace('env: [{name: SHOP, value: "$(HOME)/shop"}]', f"env: [{many}]")).problems
    assert (problem.rule, problem.path) == ("limit", "spec.template.env")
