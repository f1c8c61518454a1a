"""What is to be made of manifests: which overlay, which values; and files as the trees that those belong to.

Words only, and light: `up` hands them on without loading anything that reads a manifest.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from reconciler.loading.files import Scan
    from reconciler.loading.parse import SourceFile
    from reconciler.loading.problem import Problem

OVERLAYS = "overlays"


class Tree(NamedTuple):
    """The files of one directory; without a root, files that stand for themselves."""

    root: str
    files: Sequence[SourceFile]


class Variant(NamedTuple):
    """Which of the things that manifests can become is wanted."""

    overlay: str = ""
    values: tuple[SourceFile, ...] = ()
    sets: tuple[str, ...] = ()

    def digest(self, of_files: str) -> str:
        """The digest of files together with what they become by this."""
        if not any(self):
            return of_files
        parts = (of_files.encode(), self.overlay.encode(), *(file.data for file in self.values))
        parts += tuple(text.encode(errors="surrogateescape") for text in self.sets)
        return hashlib.sha256(b"".join(b"%d " % len(part) + part for part in parts)).hexdigest()[:40]


AS_WRITTEN = Variant()


class Wanted(NamedTuple):
    """A variant by the paths of its files, as people ask for it: read anew at each load."""

    overlay: str = ""
    values: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()

    def read(self) -> tuple[Variant, list[Problem]]:
        """The variant, and which of its files cannot be read."""
        from reconciler.loading.files import scan  # whoever has no such files pays nothing

        found = [scan(path) for path in self.values]
        files = tuple(file for one in found for file in one.files)
        return Variant(self.overlay, files, self.sets), [problem for one in found for problem in one.problems]

    def over(self, scan: Scan) -> Scan:
        """What was found of a source, with the variant that is wanted of it."""
        if not any(self):
            return scan
        variant, bad = self.read()
        return scan._replace(variant=variant, digest=variant.digest(scan.digest), problems=(*scan.problems, *bad))

    def words(self) -> list[str]:
        """As options of a command that runs elsewhere."""
        words = [f"--overlay={self.overlay}"] * bool(self.overlay)
        words += (f"--values={os.path.abspath(path)}" for path in self.values)
        return words + [f"--set={text}" for text in self.sets]


def trees(files: Sequence[SourceFile], roots: Sequence[str]) -> list[Tree]:
    """Files as the trees of these roots; what is below none of them stands for itself."""
    of: dict[str, list[SourceFile]] = {}
    for file in files:
        above = [root for root in roots if file.path == root or file.path.startswith(root.rstrip("/") + "/")]
        of.setdefault(max(above, key=len, default=""), []).append(file)
    return [Tree(root, found) for root, found in of.items()]


def has_overlay(tree: Tree, name: str) -> bool:
    """Whether a tree has something of that name."""
    return any(below(tree, file)[:2] == [OVERLAYS, name] for file in tree.files)


def below(tree: Tree, file: SourceFile) -> list[str]:
    """The steps from the root to a file; of a file that stands for itself its path as one step."""
    root = tree.root.rstrip("/") + "/"
    return file.path[len(root) :].split("/") if tree.root and file.path.startswith(root) else [file.path]
