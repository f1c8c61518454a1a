"""explain: what a rule or a field means, without a daemon.

reconciler explain                         every rule and every kind
reconciler explain duration                a rule: what, why, the mend, an example
reconciler explain pool.spec.restart       a field: its type, its default, what a change does, what is in it
"""

from __future__ import annotations

import json
import sys
import textwrap
from typing import TYPE_CHECKING

import click

from reconciler.cli.show import table
from reconciler.errors import NotFound
from reconciler.loading import rules
from reconciler.loading.problem import escape

if TYPE_CHECKING:
    from reconciler.resources.fields import Field


@click.command("explain")
@click.argument("what", required=False, metavar="[RULE|FIELD]")
@click.option("-o", "form", type=click.Choice(["text", "json"]), default="text", help="How it is printed.")
def explain_command(what: str | None, form: str) -> None:
    """Says what a rule or a field means.

    RULE stands in brackets in every problem: duration. FIELD is a path from the kind on: pool.spec.restart; a name
    alone will do where it is the only one: gracePeriod. With neither, all rules and kinds are listed.
    """
    if what is None:
        sys.stdout.write(_everything(form))
    elif (rule := rules.RULES.get(what)) is not None:
        sys.stdout.write(_dumped(rule._asdict()) if form == "json" else _rule(rule))
    else:
        from reconciler.resources import fields

        try:
            field = fields.find(what)
        except LookupError as error:
            raise NotFound(str(error), help="`reconciler explain` lists all rules and kinds") from None
        sys.stdout.write(_dumped(field.to_json()) if form == "json" else _field(field))


def _everything(form: str) -> str:
    from reconciler.resources.kinds import DECLARED

    if form == "json":
        return _dumped({"rules": [rule._asdict() for rule in rules.RULES.values()], "kinds": list(DECLARED)})
    lines = [[rule.id, rule.layer.value, rule.severity, rule.what] for rule in rules.RULES.values()]
    kinds = [[kind.lower(), (model.__doc__ or "").partition("\n")[0]] for kind, model in DECLARED.items()]
    return table(["RULE", "LAYER", "SEVERITY", "WHAT"], lines) + "\n" + table(["KIND", "WHAT"], kinds)


def _rule(rule: rules.Rule) -> str:
    lines = [f"{rule.id} ({rule.severity}, {rule.layer}): {rule.what}", ""]
    lines += _filled("why", rule.why) + _filled("mend", rule.mend)
    for word, example in (("wrong", rule.wrong), ("right", rule.right)):
        if example:
            shown = [escape(line if len(line) <= 90 else f"{line[:80]}...") for line in example.splitlines()]
            lines += ["", f"  {word}", *(f"    {line}" for line in shown)]
    if rule.can_be_ignored:
        lines += ["", *_filled("to silence it", f"# reconciler: ignore[{rule.id}] in or above the line")]
    from reconciler.resources.fields import places

    if same := places(rule.id):
        lines += ["", *_filled("fields of that name", ", ".join(same))]
    return "\n".join(lines) + "\n"


_CHANGES = {
    "template": "workers are replaced, one after another",
    "live": "applied in place, nothing restarts",
    "cosmetic": "nothing happens to what runs",
}


def _field(field: Field) -> str:
    lines = [f"{field.path} ({field.type}{', required' if field.required and '.' in field.path else ''})", ""]
    lines += _filled("what", field.description) if field.description else []
    lines += _filled("default", _shown(field.default)) if field.default is not None else []
    lines += _filled("values", ", ".join(field.values)) if field.values else []
    lines += _filled("limits", field.limits) if field.limits else []
    lines += _filled("a change", _CHANGES[field.change]) if field.change else []
    if field.example:
        lines += ["", "  example", *(f"    {line}" for line in field.example.splitlines())]
    text = "\n".join(lines) + "\n"
    if not field.fields:
        return text
    rows = [
        [one.name, one.type, "required" if one.required else _shown(one.default), _described(one)]
        for one in field.fields
    ]
    return text + "\n" + table(["FIELD", "TYPE", "DEFAULT", "WHAT"], rows)


def _described(field: Field) -> str:
    said = all(value in field.description for value in field.values)
    return field.description if said else f"{field.description} One of {', '.join(field.values)}."


def _shown(value: object) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value)


def _filled(word: str, text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent=f"  {word}: ", subsequent_indent="    ", break_on_hyphens=False)


def _dumped(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
