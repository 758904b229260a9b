"""The page in a browser: on a phone and on a desk, in light and in dark, on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outrider_compiler.release import Release
from outrider_compiler.report import page
from tests.fleet.web.chromium import Chromium, find, launched

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find() is None, reason="no Chromium on this machine: the report was not looked at in a browser"),
]
Json = dict[str, Any]
WIDTHS = (380, 800, 1400)
LONG = "blocks.11.attention.query_key_value.projection/MatMul_quantized_weights_with_a_long_name"

# Every text with its colour, the ground that it stands on, and its size as drawn.
TEXTS = """
(() => {
  const parse = c => c.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = e => { for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0.5) return c; }
    return [255, 255, 255]; };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  for (let node; node = walker.nextNode();) {
    const e = node.parentElement, style = getComputedStyle(e), svg = e.closest('svg');
    if (!node.data.trim() || e.closest('title') || !e.getClientRects().length) continue;
    const colour = parse(svg ? style.fill : style.color), under = ground(svg ? svg : e);
    const [a, b] = [light(colour), light(under)].sort((x, y) => y - x);
    const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    found.push({text: node.data.trim(), contrast: (a + 0.05) / (b + 0.05), px: parseFloat(style.fontSize) * scale});
  }
  return found;
})()
"""


def crowded(report: Json) -> Json:
    """The report of a real build with more of everything: layers, classes, long names, what could not be built."""
    for profile in report["profiles"].values():
        profile["warnings"] = ["channel 3 of 'x' never changes in the calibration set"]
        profile["not_built"] = [{"name": "int4_weight", "reason": f"no product is large enough, not even {LONG}"}]
        for item in profile["candidates"]:
            item["proxy"] = "measured on x86_64, the profile is aarch64"
            item["fallback"] = [LONG, "Gemm × 1"]
            item["layers"] = [
                {"name": f"{LONG}.{i}", "kind": "MatMul", "sqnr_db": 8.0 + i, "precision": "fp32" if i % 3 else "int8"}
                for i in range(30)
            ]
            item["slices"] = [
                {"slice": f"site={name}", "n": 400, "judged": True, "source": 0.7, "value": 0.69, "drop": drop,
                 "drop_low": -0.01, "drop_upper": 0.03}
                for name, drop in (("north", 0.01), (LONG, 0.002))
            ]  # fmt: skip
    return report


@pytest.fixture(scope="module")
def address(release: Release, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The crowded page as a file."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(page.render(crowded(release.report())))
    return path.as_uri()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    """A fresh Chromium."""
    with launched(find() or "", tmp_path / "profile") as opened:
        yield opened


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_asks_for_nothing(browser: Chromium, address: str, width: int) -> None:
    """CMP-RPT-4: at each width nothing sticks out, the browser complains of nothing and fetches the file alone."""
    browser.size(width, 900)
    browser.open(address)
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.complaints() == []
    assert browser.addresses() == [address]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1400])
def test_it_can_be_read(browser: Chromium, address: str, width: int, scheme: str, tmp_path: Path) -> None:
    """CMP-RPT-4: in both schemes every text has a contrast of 4.5 : 1 to its ground and is drawn at 10 px or more."""
    browser.size(width, 900)
    browser.prefer(scheme)
    browser.open(address)
    texts = browser.value(TEXTS)
    assert len(texts) > 400
    assert not [item for item in texts if item["contrast"] < 4.5]
    assert not [item for item in texts if item["px"] < 10]
    browser.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 100_000


def test_paper_shows_what_is_folded(browser: Chromium, address: str) -> None:
    """CMP-RPT-4: what is folded on the screen is printed, and no column is lost behind an edge."""
    folded = "[...document.querySelectorAll('details:not([open]) table')].map(t => t.checkVisibility())"
    browser.size(1400, 900)
    browser.open(address)
    assert set(browser.value(folded)) == {False}
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert set(browser.value(folded)) == {True}
    assert browser.value("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
