"""dependsOn across the objects of one load: what depends on itself in the end.

a -> b -> c -> a      one problem, at the first of them, with the whole way round
"""

from __future__ import annotations

from collections.abc import Sequence

from reconciler.loading.document import Document
from reconciler.loading.problem import Problem
from reconciler.resources.pool import Pool


def circles(declared: Sequence[tuple[Document, Pool]]) -> list[Problem]:
    """Depth first, without recursion; each pool is entered once, so each circle is found at one place."""
    pools = {pool.name: (document, pool) for document, pool in declared}
    problems = []
    done: set[str] = set()
    for start in pools:
        way: list[tuple[str, int]] = []  # the pool, and the next of its dependencies to look at
        if start not in done:
            way.append((start, 0))
        while way:
            name, index = way.pop()
            document, pool = pools[name]
            if index == len(pool.spec.depends_on):
                done.add(name)
                continue
            way.append((name, index + 1))
            next_ = pool.spec.depends_on[index].name
            names = [one for one, _ in way]
            if next_ in names:
                circle = [*names[names.index(next_) :], next_]
                path = ("spec", "dependsOn", index, "name")
                message = f"depends on itself: {' -> '.join(f'pool/{one}' for one in circle)}"
                help = "remove one of these dependencies"
                problems.append(document.problem(document.value_span(path), "cycle", path, message, help))
            elif next_ in pools and next_ not in done:
                way.append((next_, 0))
    return problems
