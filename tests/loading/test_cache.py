"""What has not changed since the last load is taken from there, unless it is not what its file alone gives."""

from __future__ import annotations

from reconciler.loading.parse import SourceFile
from reconciler.loading.render import load
from reconciler.loading.validate import Cache
from reconciler.loading.variant import AS_WRITTEN, Tree, Variant
from reconciler.resources.pool import Pool


def pool(name: str, replicas: object, path: str = "") -> SourceFile:
    spec = f"{{replicas: {replicas}, template: {{command: [/bin/x]}}}}"
    text = f"apiVersion: reconciler/v1\nkind: Pool\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    return SourceFile(f"/m/{path or name}.yaml", text.encode())


def tree(*files: SourceFile) -> list[Tree]:
    return [Tree("/m", files)]


def test_a_file_that_has_not_changed_is_taken_from_the_last_load_and_its_problems_with_it() -> None:
    cache: Cache = {}
    first = load(tree(pool("a", 1), pool("b", "x"), pool("c", 1)), AS_WRITTEN, "/m", "one", (), cache)
    second = load(tree(pool("a", 1), pool("b", "x"), pool("d", 1)), AS_WRITTEN, "/m", "two", (), cache)

    assert (
        [problem.file for problem in second.problems] == [problem.file for problem in first.problems] == ["/m/b.yaml"]
    )
    assert [obj.name for obj in second.objects] == ["a", "d"]
    assert second.objects[0] is first.objects[0]
    assert [obj.metadata.source.revision for obj in second.objects if obj.metadata.source] == ["one", "two"]
    assert {file.path for file in cache} == {"/m/a.yaml", "/m/b.yaml", "/m/d.yaml"}, "what is gone is kept"


def test_a_clash_between_an_old_and_a_new_file_is_found() -> None:
    cache: Cache = {}
    load(tree(pool("a", 1)), AS_WRITTEN, "/m", "one", (), cache)

    found = load(tree(pool("a", 1), pool("a", 2, "z")), AS_WRITTEN, "/m", "two", (), cache)

    assert [problem.rule for problem in found.problems] == ["duplicate-object"]


def replicas(trees: list[Tree], variant: Variant, cache: Cache) -> list[int]:
    loaded = load(trees, variant, "/m", "r", (), cache)
    assert loaded.valid, loaded.problems
    return [obj.spec.replicas for obj in loaded.objects if isinstance(obj, Pool)]


def test_values_and_overlays_are_put_in_anew_each_time() -> None:
    cache: Cache = {}
    asked = pool("a", '"${{ count }}"')
    given = [SourceFile("/m/values.yaml", f"count: {count}\n".encode()) for count in (1, 2)]

    assert replicas(tree(asked, given[0]), AS_WRITTEN, cache) == [1]
    assert replicas(tree(asked, given[1]), AS_WRITTEN, cache) == [2]

    base, patch = pool("b", 1), pool("b", 7, "overlays/prod/b")
    for _ in range(2):
        assert replicas(tree(base, patch), Variant(overlay="prod"), cache) == [7]
        assert replicas(tree(base, patch), AS_WRITTEN, cache) == [1]
