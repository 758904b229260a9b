r"""Markdown for pull requests: tables in which no text can become a column, a tag or a link.

>>> print(table(["name", "size"], [["int8|static", "29 kB"], ["`a_b`", "1"]]))
| name | size |
|---|---|
| int8\|static | 29 kB |
| \`a\_b\` | 1 |
>>> code("int8_static")
'`int8_static`'
"""

from __future__ import annotations

import re
from typing import Any, Final

from outrider_compiler.report import wording
from outrider_compiler.report.summary import Summary

Json = dict[str, Any]
SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>&#|~!@])")
PLAIN: Final = re.compile(r"[\w.+=:/ -]+")


def escape(text: str) -> str:
    """Text that stays text, on one line."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """A name in a fixed-pitch face, where it needs no escaping."""
    return f"`{text}`" if PLAIN.fullmatch(text) and text.strip() == text else escape(text)


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table of texts that are escaped here."""
    return raw_table(head, [[escape(cell) for cell in row] for row in rows])


def raw_table(head: list[str], rows: list[list[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    made = [f"| {' | '.join(row)} |" for row in lines]
    made[1] = f"|{'---|' * len(head)}"
    return "\n".join(made)


def render(summary: Summary) -> bytes:
    """What shipped and why, or why nothing did."""
    parts = [f"## {escape(summary.model)} {escape(summary.version)}", *_verdict(summary)]
    if summary.profiles:
        parts.append(_overview(summary))
    for name, profile in sorted(summary.profiles.items()):
        parts += _profile(name, profile)
    return ("\n\n".join(parts) + "\n").encode()


def _verdict(summary: Summary) -> list[str]:
    error = summary.error
    if error is None:
        return []
    said = [f"**No release** ({error['error']}, exit status {error['exit_code']}): {escape(error['message'])}"]
    said += [f"Hint: {escape(error['hint'])}"] if error["hint"] else []
    said += [f"Not reached: {', '.join(map(code, summary.unreached))}"] if summary.unreached else []
    return said


def _overview(summary: Summary) -> str:
    head = ["profile", "chosen", "size", "× fp32", "latency", "× fp32", "primary figure", "lost", "agreement"]
    return raw_table(head, [_line(name, profile) for name, profile in sorted(summary.profiles.items())])


def _line(name: str, profile: Json) -> list[str]:
    found = [item for item in profile["candidates"] if item["name"] == profile["chosen"]]
    if not found:
        return [code(name), f"none ({wording.words(profile['status'])})", *[""] * 7]
    item = found[0]
    base = next((other for other in profile["candidates"] if other["name"] == "fp32"), item)
    figure = item["metrics"][item["primary"]]
    return [
        code(name),
        code(item["name"]),
        wording.size(item["size_bytes"]),
        wording.ratio(item["size_bytes"] / base["size_bytes"]),
        wording.time_us(item["latency_us"]),
        wording.ratio(item["latency_ratio"]) + (" (proxy)" if item["proxy"] else ""),
        f"{wording.words(item['primary'])} {wording.figure(figure['value'])}",
        wording.lost(item["drop"], item["primary"]),
        wording.digits(item["agreement"], 3),
    ]


def _profile(name: str, profile: Json) -> list[str]:
    parts = [f"### {escape(name)}", escape(wording.reason(profile))]
    rows = [
        [code(item["name"]), item["verdict"], wording.size(item["size_bytes"]), wording.ratio(item["latency_ratio"]),
         wording.decibels(min(item["sqnr_db"].values(), default=None)), escape("; ".join(item["refusals"]))]
        for item in profile["candidates"]
    ]  # fmt: skip
    rows += [[code(item["name"]), "not built", "", "", "", escape(item["reason"])] for item in profile["not_built"]]
    if rows:
        parts.append(raw_table(["candidate", "verdict", "size", "latency × fp32", "signal to noise", "why not"], rows))
    return parts + [f"Warning: {escape(text)}" for text in profile["warnings"]]
