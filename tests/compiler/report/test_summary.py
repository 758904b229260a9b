"""JUnit and Markdown of a build, whether it ended well or not."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from outrider_compiler.errors import GateError, NothingBuiltError
from outrider_compiler.report import junit, markdown
from outrider_compiler.report.summary import Summary
from tests.compiler.report.reports import EVIL, reports

Json = dict[str, Any]
anything = st.text(st.characters(codec="utf-8"), max_size=12)  # what XML cannot hold as well


def parsed(summary: Summary) -> ET.Element:
    """The document, read by a parser that refuses what is not well formed."""
    return ET.fromstring(junit.render(summary))


def cases(root: ET.Element) -> dict[tuple[str, str], list[ET.Element]]:
    """Cases by suite and name."""
    found: dict[tuple[str, str], list[ET.Element]] = {}
    for case in root.iter("testcase"):
        found.setdefault((case.attrib["classname"], case.attrib["name"]), []).append(case)
    return found


def result(case: ET.Element) -> str:
    """What a pipeline shows for a case."""
    return next((child.tag for child in case if child.tag in ("skipped", "failure")), "passed")


def check_shape(root: ET.Element) -> None:
    """The shape that pipelines read: suites in one root, cases in suites, counts that are right, at most one result."""
    assert root.tag == "testsuites"
    for suite in root:
        assert suite.tag == "testsuite"
        assert suite.attrib.keys() == {"name", "tests", "failures", "errors", "skipped"}
        for case in suite:
            assert case.tag == "testcase"
            assert case.attrib.keys() == {"name", "classname"}
            assert case.attrib["classname"] == suite.attrib["name"]
            tags = [child.tag for child in case]
            assert tags in (sorted(tags), ["skipped", "system-out"])
            assert set(tags) <= {"failure", "skipped", "system-out"}
            assert len(tags) == len(set(tags))
            assert all("message" in child.attrib for child in case if child.tag != "system-out")
            assert all("type" in child.attrib for child in case if child.tag == "failure")
    for element in (root, *root):
        results = [result(case) for case in element.iter("testcase")]
        for name, tag in (("tests", None), ("failures", "failure"), ("skipped", "skipped")):
            assert int(element.attrib[name]) == (len(results) if tag is None else results.count(tag))


@given(reports())
def test_every_candidate_and_limit_is_a_case(report: Json) -> None:
    """CMP-SUM-1, CMP-SUM-2: refused ones are skipped with the reason, limits that do not hold are failures."""
    summary = Summary.of_release(report)
    root = parsed(summary)
    check_shape(root)
    found = cases(root)
    for name, profile in report["profiles"].items():
        for item in profile["candidates"]:
            same = [case for case in found[name, item["name"]] if result(case) == "skipped"] or found[
                name, item["name"]
            ]
            if item["verdict"] == "refused":
                assert same[0].find("skipped").attrib["message"] == "; ".join(item["refusals"])  # type: ignore[union-attr]  # it was found above
            elif len(found[name, item["name"]]) == 1:
                assert result(same[0]) == "passed"
        for limit in profile["limits"]:
            wanted = "passed" if limit["holds"] else "failure"
            assert wanted in {result(case) for case in found[name, f"limit {limit['limit']}"]}


def test_an_artifact_that_is_missing_shows_as_what_it_is() -> None:
    """CMP-SUM-1: not built beside others is skipped, a refused profile and a build without any are failures."""
    nothing = {"status": "not_built", "reason": "no converter", "candidates": [], "not_built": [], "limits": []}
    built = {**nothing, "status": "built", "reason": "good"}
    refused = {**nothing, "status": "refused", "reason": "not even fp32 passes"}
    error = GateError("x: not even fp32 passes")
    for profiles, failure, wanted in (
        ({"x": built, "y": nothing}, None, {"x": "passed", "y": "skipped"}),
        ({"x": built, "y": refused}, error, {"x": "passed", "y": "failure"}),
        ({"y": nothing}, NothingBuiltError("y: no converter"), {"y": "failure"}),
    ):
        root = parsed(Summary("m", "1", profiles, ("z",), failure.json() if failure else None))
        check_shape(root)
        shown = {name: result(found[0]) for (name, case), found in cases(root).items() if case == "artifact"}
        assert shown == {**wanted, "z": "skipped"}
        release = cases(root)["build", "release"][0]
        assert result(release) == ("failure" if failure else "passed")
        if failure:
            said = release.find("failure")
            assert said is not None
            assert (said.attrib["type"], said.attrib["message"]) == (type(failure).__name__, str(failure))


@given(anything, anything, anything)
def test_any_text_is_well_formed(name: str, reason: str, hint: str) -> None:
    """CMP-SUM-2: what XML cannot hold is replaced, everything else comes back as it was."""
    absent = {"status": "not_built", "reason": reason, "candidates": [], "limits": []}
    profiles = {name: {**absent, "not_built": [{"name": name, "reason": reason}]}}
    root = parsed(Summary(name, "1", profiles, (), GateError(reason, hint).json()))
    check_shape(root)
    messages = [element.attrib["message"] for element in root.iter("failure")]
    assert len(messages) == 2
    fit = junit.UNFIT.sub("\ufffd", reason)
    # An attribute's value is normalised by every parser: white space other than blanks is written as a reference.
    assert messages[0].split() == fit.split()


@given(reports())
def test_tables_keep_their_columns(report: Json) -> None:
    """CMP-SUM-3: every row has the columns of its head, and no tag, link or image comes from a name."""
    text = markdown.render(Summary.of_release(report)).decode()
    columns = 0
    for line in text.splitlines():
        if not line.startswith("|"):
            columns = 0
            continue
        count = len(re.findall(r"(?<!\\)\|", line.replace("\\\\", "")))
        columns = columns or count
        assert count == columns, line
    prose = re.sub(r"`[^`\n]*`", "", text.replace("\\\\", "").replace("\\`", ""))
    assert not re.search(r"(?<!\\)[<>\[\]!]", prose)
    for profile in report["profiles"].values():
        for item in profile["candidates"]:
            assert markdown.code(item["name"]) in text
            assert all(markdown.escape(refusal) in text for refusal in item["refusals"])


def test_a_name_in_code_cannot_leave_it() -> None:
    """CMP-SUM-3: only plain names are shown as code."""
    assert markdown.code("int8_static") == "`int8_static`"
    for text in ("a`b", " a", "a|b", "<b>", "a\nb"):
        assert not markdown.code(text).startswith("`")
    assert "<script" not in markdown.escape(EVIL).replace("\\<", "")


def test_a_failed_build_says_so_first() -> None:
    """CMP-SUM-5: error, status and hint, what was measured, and what was not reached."""
    error = GateError("x86-64: not even fp32 passes", "look at the data")
    text = markdown.render(Summary("m", "1", {}, ("raspberry-pi-5",), error.json())).decode()
    for said in (
        "**No release** (GateError, exit status 4)",
        "Hint: look at the data",
        "Not reached: `raspberry-pi-5`",
    ):
        assert said in text
