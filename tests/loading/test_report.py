"""The forms of a report: what each reader needs, and nothing of a manifest that could forge it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from typing import Any

import pytest

from reconciler.loading.problem import Problem
from reconciler.loading.report import FORMATS, Report, render

TYPE = Problem(
    "/work/m/web.yaml", 12, 13, 18, "type", "expected a whole number, got 'three'", "spec.replicas",
    "write it as a number: replicas: 3", "  replicas: three",
)  # fmt: skip
EMPTY = Problem("/work/m/api.yaml", 1, 1, 2, "empty", "the file holds no objects", severity="warning")
HOSTILE = Problem(
    "a,b:c%\n.yaml", 1, 1, 2, "type", "got ']]><x>\x1b[2J\n::error::forged%0A", 'spec.<&">', snippet="\x00\x1b\udc80"
)
FILES = ["/work/m/api.yaml", "/work/m/good.yaml", "/work/m/web.yaml"]


def report(*problems: Problem) -> Report:
    return Report(FILES, 2, problems, version="1.2.3", root="/work")


def test_json_has_counts_and_every_part_of_every_problem() -> None:
    found = json.loads(render(report(TYPE, EMPTY), "json"))

    assert (found["valid"], found["files"], found["errors"], found["warnings"]) == (False, 3, 1, 1)
    assert [Problem.from_json(item) for item in found["problems"]] == [EMPTY, TYPE]
    assert json.loads(render(report(EMPTY), "json"))["valid"] is True


def test_github_gets_one_annotation_a_problem_with_paths_from_the_root_of_the_repository() -> None:
    assert render(report(TYPE, EMPTY), "github").splitlines() == [
        "::warning file=m/api.yaml,line=1,endLine=1,col=1,endColumn=2,title=reconciler empty"
        "::the file holds no objects",
        "::error file=m/web.yaml,line=12,endLine=12,col=13,endColumn=18,title=reconciler type"
        "::spec.replicas: expected a whole number, got 'three' (write it as a number: replicas: 3)",
    ]


def test_gitlab_knows_a_finding_again_when_it_has_moved_and_two_alike_from_each_other() -> None:
    def quality(*problems: Problem) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(render(report(*problems), "gitlab"))
        return found

    moved = replace(TYPE, line=40)
    (first,), (again,), both = quality(TYPE), quality(moved), quality(TYPE, moved)
    assert first["location"] == {"path": "m/web.yaml", "lines": {"begin": 12}}
    assert (first["check_name"], first["severity"]) == ("type", "major")
    assert first["fingerprint"] == again["fingerprint"]
    assert len({one["fingerprint"] for one in both}) == 2
    assert quality(EMPTY)[0]["severity"] == "minor"


def test_sarif_names_its_rules_and_places() -> None:
    found = json.loads(render(report(TYPE, EMPTY), "sarif"))
    (run,) = found["runs"]

    assert found["version"] == "2.1.0"
    assert run["tool"]["driver"]["version"] == "1.2.3"
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == ["empty", "type"]
    assert [rule["defaultConfiguration"]["level"] for rule in rules] == ["warning", "error"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    place = run["results"][1]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "m/web.yaml"
    region = {name: place["region"][name] for name in ("startLine", "startColumn", "endLine", "endColumn")}
    assert region == {"startLine": 12, "startColumn": 13, "endLine": 12, "endColumn": 18}


def test_junit_has_a_case_a_file_and_only_errors_fail_it() -> None:
    suites = ElementTree.fromstring(render(report(TYPE, EMPTY), "junit"))

    assert (suites.get("tests"), suites.get("failures")) == ("3", "1")
    cases = {case.get("name"): case for case in suites.iter("testcase")}
    assert list(cases) == ["m/api.yaml", "m/good.yaml", "m/web.yaml"]
    failure = cases["m/web.yaml"].find("failure")
    assert failure is not None and failure.get("type") == "type" and "^^^^^" in str(failure.text)
    assert cases["m/api.yaml"].find("failure") is None
    assert "no objects" in str(cases["m/api.yaml"].findtext("system-out"))


@pytest.mark.parametrize("form", FORMATS)
def test_a_hostile_manifest_forges_nothing(form: str) -> None:
    text = render(report(HOSTILE), form)

    assert "\x1b" not in text and "\x00" not in text
    text.encode()  # a file's name may be no UTF-8
    if form in ("json", "gitlab", "sarif"):
        json.loads(text)
    elif form == "junit":
        assert len(list(ElementTree.fromstring(text).iter("failure"))) == 1
    elif form == "github":
        assert len(text.splitlines()) == 1 and "file=a%2Cb%3Ac%25\\n.yaml," in text
    else:
        assert sum("error[type]" in line for line in text.splitlines()) == 1


def test_sarif_quotes_what_a_uri_cannot_hold() -> None:
    def uri(file: str) -> str:
        (run,) = json.loads(render(report(replace(TYPE, file=file)), "sarif"))["runs"]
        found: str = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        return found

    assert uri("/work/a b%é.yaml") == "a%20b%25%C3%A9.yaml"
    assert uri("/elsewhere/a.yaml") == "file:///elsewhere/a.yaml"


@pytest.mark.parametrize("form", FORMATS)
def test_a_clean_report_is_well_formed_too(form: str) -> None:
    text = render(Report([], 0, ()), form)

    if form in ("json", "gitlab", "sarif"):
        json.loads(text)
    elif form == "junit":
        ElementTree.fromstring(text)
    else:
        assert "error" not in text
