"""report.html shows what report.json holds, whatever the names and figures are."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from hypothesis import given, settings

from outrider_compiler.quality import DB_MAX
from outrider_compiler.release import Release
from outrider_compiler.report import page, wording
from tests.compiler.report.reports import EVIL, reports

Json = dict[str, Any]
VOID = {"meta", "br", "line", "circle", "path", "rect", "polyline"}
LOADING = {"src", "href", "srcset", "data", "poster", "action", "background", "xlink:href"}


class Page(HTMLParser):
    """The page's text, its tags with their attributes, and whether every tag that opens is closed."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(html.decode())
        self.close()

    @property
    def text(self) -> str:
        """All that a reader sees, one text a line."""
        return "\n".join(self.texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def must_show(report: Json) -> Iterator[str]:
    """Every text of a report that a reader must find."""
    yield from (report["request"]["model"], report["request"]["version"])
    yield from (*report["inputs"].values(), *report["evidence"].values(), *report["tools"].values())
    for name, profile in report["profiles"].items():
        yield from (name, profile["board"]["title"], *profile["warnings"])
        yield from (text for item in profile["not_built"] for text in item.values())
        yield from (
            text for limit in profile["limits"] for text in (limit["what"], limit["measured"], limit["allowed"])
        )
        yield from _candidates(profile)
        robustness = profile["robustness"]
        yield from (part["reason"] for part in (robustness, robustness.get("fgsm", {})) if "reason" in part)


def _candidates(profile: Json) -> Iterator[str]:
    for item in profile["candidates"]:
        yield from (item["name"], item["measured_on"], item["proxy"], *item["refusals"], *item["fallback"])
        yield from (text for layer in item["layers"] for text in (layer["name"], layer["kind"], layer["precision"]))
        yield from (
            text for value in item["recipe"].values() for text in ([value] if isinstance(value, str) else value)
        )
        yield from (wording.size(item["size_bytes"]), wording.time_us(item["latency_us"]), *item["sqnr_db"])
        if item["verdict"] == "chosen":
            yield from (*item["per_class"], *(part["slice"] for part in item["slices"]))
            yield from map(wording.words, item["metrics"])
    if profile["reason"].startswith("fp32 kept") or profile["status"] == "refused":
        yield profile["reason"].partition(": ")[0]
    else:
        yield profile["reason"]


@settings(max_examples=120)
@given(reports())
def test_everything_in_the_report_is_on_the_page(report: Json) -> None:
    """CMP-RPT-1: every candidate, class, slice, layer, refusal, limit, warning and input of report.json is there."""
    shown = Page(page.render(report))
    for text in must_show(report):
        assert text in shown.text, text
    assert shown.open == []


@given(reports())
def test_text_stays_text(report: Json) -> None:
    """CMP-RPT-2: no name becomes markup, and the page asks for nothing: no script, no address, no handler."""
    report["request"]["model"] = EVIL
    shown = Page(page.render(report))
    assert EVIL in shown.text
    assert {tag for tag, _ in shown.tags} <= {
        "html", "head", "meta", "title", "style", "body", "header", "div", "p", "h1", "h2", "h3", "main", "section",
        "table", "thead", "tbody", "tr", "th", "td", "small", "a", "span", "svg", "g", "line", "circle", "path", "rect",
        "polyline", "text", "figure", "figcaption", "ul", "li", "details", "summary", "dl", "dt", "dd", "code", "b",
        "br",
    }  # fmt: skip
    for tag, attributes in shown.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in LOADING & set(attributes):
            assert (tag, name) == ("a", "href")
            assert str(attributes[name]).startswith("#profile-")


def test_the_page_forbids_itself_everything(release: Release) -> None:
    """CMP-RPT-2: its policy allows its own styles alone, and the styles load nothing."""
    shown = Page((release.directory / "report.html").read_bytes())
    policy = next(attrs["content"] for tag, attrs in shown.tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


@given(reports())
def test_tables_and_drawings_speak(report: Json) -> None:
    """CMP-RPT-4: every header cell has a scope, every drawing a name or is hidden, every region that scrolls a name."""
    for tag, attributes in Page(page.render(report)).tags:
        if tag == "th":
            assert attributes.get("scope") in ("row", "col")
        if tag == "svg":
            assert attributes.get("aria-hidden") == "true" or (
                attributes.get("role") == "img" and attributes["aria-label"]
            )
        if tag == "div" and "scroll" in str(attributes.get("class")).split():
            assert attributes["aria-label"]
            assert attributes["tabindex"] == "0"


def test_exact_is_the_largest_ratio() -> None:
    """CMP-RPT-1: what the page calls exact is what equal outputs measure."""
    assert wording.EXACT_DB == DB_MAX
