"""render: manifests as the daemon would load them, with overlay, values and templates worked in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from reconciler.cli.manifests import read_trees
from reconciler.cli.show import structured
from reconciler.cli.variant import variant_of, variant_options
from reconciler.loading.problem import has_errors, in_order
from reconciler.loading.render import check_rendered, render
from reconciler.loading.report import full
from reconciler.loading.variant import Wanted


@click.command("render")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-o", "form", type=click.Choice(["yaml", "json"]), default="yaml", help="json: one list of all objects.")
@variant_options
def render_command(paths: Sequence[str], form: str, wanted: Wanted) -> int:
    """Prints manifests as the daemon would load them.

    \b
    ${{ web.replicas }}      in values, from PATH/values.yaml, --values and --set
    PATH/overlays/NAME/      with --overlay NAME, merged by kind and name
    *.yaml.j2                templates of whole files

    Ends with 1, and all that is wrong on stderr, if the daemon would not load it.
    """
    trees, unread = read_trees(paths)
    variant, bad = variant_of(wanted, trees)
    rendered = render(trees, variant)
    documents = [
        document for _, parsed in rendered.files for document in parsed.documents if document.value is not None
    ]
    if form == "json":
        sys.stdout.write(structured({"kind": "List", "items": [document.value for document in documents]}, "json"))
    else:
        for number, document in enumerate(documents):
            sys.stdout.write("---\n" if number else "")
            sys.stdout.write(f"# {document.file}:{document.line}\n{_yaml(document.value)}")
    sys.stdout.flush()
    problems = in_order((*unread, *bad, *check_rendered(rendered).problems))
    sys.stderr.write(full(problems))
    return 1 if has_errors(problems) else 0


def _yaml(value: Any) -> str:
    """YAML that our parser, and one of YAML 1.1, both read as this value."""
    import yaml

    from reconciler.loading.parse import resolve

    class Dumper(yaml.CSafeDumper):
        """Quotes what only one of the two takes for a string; writes an alias out."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

    def string(dumper: Any, text: str) -> Any:
        plain = dumper.resolve(yaml.ScalarNode, text, (True, False)) == "tag:yaml.org,2002:str"
        quoted = not text or not plain or len(text) > 100 or not isinstance(resolve(text), str)
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, '"' if quoted else None)

    Dumper.add_representer(str, string)
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)
