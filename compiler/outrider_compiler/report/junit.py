"""A build as JUnit XML, which pipelines show as tests.

1. A suite for the build and one for each profile; in it a case for the artifact, for each candidate and for each limit.
2. A refused candidate is skipped with its reason: that is how the choice works. A gate that failed, a profile that is
   refused and a build that ended early are failures.
3. Characters that XML cannot hold become U+FFFD.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any, Final

from outrider_compiler.report import wording
from outrider_compiler.report.summary import Summary

Json = dict[str, Any]
UNFIT: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Case:
    """`result` is '' (passed), "skipped" or "failure", with its reason; `out` is what was measured."""

    name: str
    result: str = ""
    reason: str = ""
    kind: str = ""
    out: str = ""


def render(summary: Summary) -> bytes:
    """The XML document."""
    suites = {"build": [_build(summary)]}
    suites |= {name: _profile(profile, summary) for name, profile in summary.profiles.items()}
    suites |= {name: [Case("artifact", "skipped", "the build ended before it")] for name in summary.unreached}
    cases = [case for found in suites.values() for case in found]
    root = ET.Element("testsuites", _attributes(f"{summary.model} {summary.version}", cases))
    for name, found in suites.items():
        suite = ET.SubElement(root, "testsuite", _attributes(name, found))
        for case in found:
            _add(suite, name, case)
    ET.indent(root, " ")
    return bytes(ET.tostring(root, "utf-8", xml_declaration=True)) + b"\n"


def _build(summary: Summary) -> Case:
    error = summary.error
    if error is None:
        return Case("release")
    return Case("release", "failure", error["message"], error["error"], error["hint"])


def _profile(profile: Json, summary: Summary) -> list[Case]:
    absent = [Case(item["name"], "skipped", item["reason"]) for item in profile["not_built"]]
    candidates = [_candidate(item) for item in profile["candidates"]]
    return [_artifact(profile, summary), *candidates, *absent, *map(_limit, profile["limits"])]


def _artifact(profile: Json, summary: Summary) -> Case:
    if profile["status"] == "built":
        return Case("artifact", out=profile["reason"])
    others = any(item["status"] == "built" for item in summary.profiles.values())
    if profile["status"] == "not_built" and others and summary.error is None:
        return Case("artifact", "skipped", profile["reason"])
    return Case("artifact", "failure", profile["reason"], profile["status"])


def _candidate(item: Json) -> Case:
    figures = [
        f"verdict {item['verdict']}",
        f"size {item['size_bytes']} bytes",
        f"latency {item['latency_us']} µs, {item['latency_ratio']} of fp32",
        f"{item['primary']} {item['metrics'][item['primary']]['value']}, lost {item['drop']}",
        f"agreement {item['agreement']}",
        *(f"signal to noise of {name} {wording.decibels(value)}" for name, value in sorted(item["sqnr_db"].items())),
        *([f"proxy: {item['proxy']}"] if item["proxy"] else []),
    ]
    refused = item["verdict"] == "refused"
    return Case(item["name"], "skipped" if refused else "", "; ".join(item["refusals"]), out="\n".join(figures))


def _limit(limit: Json) -> Case:
    said = f"{limit['measured']}, allowed {limit['allowed']}"
    name = f"limit {limit['limit']}"
    return Case(name, out=said) if limit["holds"] else Case(name, "failure", f"{limit['what']}: {said}", limit["limit"])


def _attributes(name: str, cases: list[Case]) -> dict[str, str]:
    counts = {result: sum(case.result == result for case in cases) for result in ("failure", "skipped")}
    return {
        "name": _fit(name), "tests": str(len(cases)), "failures": str(counts["failure"]), "errors": "0",
        "skipped": str(counts["skipped"]),
    }  # fmt: skip


def _add(suite: ET.Element, classname: str, case: Case) -> None:
    element = ET.SubElement(suite, "testcase", {"classname": _fit(classname), "name": _fit(case.name)})
    if case.result == "failure":
        child = ET.SubElement(element, "failure", {"message": _fit(case.reason), "type": _fit(case.kind)})
        child.text = _fit(case.reason)
    if case.result == "skipped":
        ET.SubElement(element, "skipped", {"message": _fit(case.reason)})
    if case.out:
        ET.SubElement(element, "system-out").text = _fit(case.out)


def _fit(text: str) -> str:
    return UNFIT.sub("\ufffd", text)
