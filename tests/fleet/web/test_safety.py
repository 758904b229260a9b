"""Hostile input, and nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from sqlalchemy import Engine

from outrider_fleet.store import tables as t
from outrider_fleet.web import assets
from outrider_fleet.web.sections import SECTIONS
from tests.fleet.web.conftest import Client, ago, application, device_row, digest, execution_row, put, rollout_row

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}&lt;\u202e\x00"
ODD: list[Any] = [
    None,
    [],
    {},
    "text",
    7,
    [["a", [1]], {"b": {"c": [None]}}],
    {"phases": 3, "gates": [1], "why": {"x": 1}},
]
PATHS = ["/", *(f"/{name}" for name in SECTIONS), "/devices/watch-01", "/rollouts/ro-000003", "/lineage/run/run-000001"]


class Page(HTMLParser):
    """Collects tags with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def spoil(engine: Engine) -> None:
    """Rows in which every text is hostile."""
    put(
        engine,
        t.devices,
        device_row(EVIL, profile=EVIL, model=EVIL, version=EVIL, facts={EVIL: EVIL}, agent_version=EVIL),
    )
    put(
        engine,
        t.rollouts,
        rollout_row(EVIL, model=EVIL, version=EVIL, group_name=EVIL, why=EVIL, created_by=EVIL, run=EVIL),
    )
    put(
        engine,
        t.executions,
        execution_row(
            EVIL, EVIL, 1, model=EVIL, version=EVIL, profile=EVIL, state=EVIL, error=EVIL, hint=EVIL, purpose=EVIL
        ),
    )
    event = {"rollout": EVIL, "at_ms": ago(1), "kind": EVIL, "phase": 0, "exposed": 1, "text": EVIL}
    put(engine, t.rollout_events, event)
    drift = {"device": EVIL, "model": EVIL, "digest": EVIL, "phase": EVIL}
    put(engine, t.drift_status, {**drift, "drifted": 1, "since_ms": ago(1), "cleared_by": EVIL, "cleared_ms": ago(1)})
    put(
        engine,
        t.drift_events,
        {
            **drift,
            "score": 1.0,
            "window_index": 1,
            "baseline_n": 1,
            "top": [EVIL, {EVIL: EVIL}],
            "at_ms": 1,
            "received_ms": 1,
        },
    )
    put(engine, t.maintenance_events, {"device": EVIL, "model": EVIL, "text": EVIL, "created_ms": ago(1)})
    put(
        engine,
        t.releases,
        {
            "model": EVIL, "version": EVIL, "counter": 1, "state": EVIL, "role_version": 1, "role_metadata": "",
            "index_json": "", "run": EVIL, "created_by": EVIL, "created_ms": ago(1),
        },
    )  # fmt: skip
    put(
        engine,
        t.artifacts,
        {
            "digest": EVIL, "model": EVIL, "version": EVIL, "profile": EVIL, "manifest_bytes": 1, "engine": EVIL,
            "precision": EVIL, "model_sha256": EVIL, "model_bytes": 0, "config": {}, "layers": [],
        },
    )  # fmt: skip
    put(
        engine, t.runs, run_row(EVIL, reason={"why": EVIL}, progress={"text": EVIL, "ratio": EVIL}, result={EVIL: EVIL})
    )
    put(engine, t.lineage, {"child_kind": EVIL, "child_id": EVIL, "parent_kind": EVIL, "parent_id": EVIL, "at_ms": 1})


def run_row(name: str, **values: Any) -> dict[str, Any]:
    """A training run whose texts are all `name`."""
    return {
        "id": name, "model": name, "state": name, "requested_by": name, "reason": {}, "snapshot": name,
        "base_version": name, "version": name, "counter": 9, "claimed_by": name, "rollout": name,
        "created_ms": ago(1), "updated_ms": ago(1), **values,
    }  # fmt: skip


def test_hostile_text_stays_text(bare_engine: Engine) -> None:
    """WEB-SAF-1: on every page, nothing that a device or a person wrote becomes markup, an attribute or a template."""
    spoil(bare_engine)
    client = Client(application(bare_engine, fleet=EVIL))
    pages = [client.get(f"/{name}").text for name in ["", *SECTIONS]]
    links = sorted(
        {href for page in pages for href in re.findall(r'href="(/(?:devices|rollouts|lineage)/[^"]+)"', page)}
    )
    assert len(links) >= 4
    answers = [client.get(link) for link in links]
    assert all(answer.status_code in (200, 404) for answer in answers)
    for page in [*pages, *(answer.text for answer in answers)]:
        tags = Page(page).tags
        assert "img" not in {tag for tag, _ in tags}
        assert [attrs["src"] for tag, attrs in tags if tag == "script"] == [
            assets.url("vendor/htmx.min.js"),
            assets.url("live.js"),
        ]
        assert not [attrs for _, attrs in tags if any(name.startswith("on") for name in attrs)]
        assert "{{ 7*7 }}" in page


def test_long_text_is_cut(bare_engine: Engine, bare_client: Client) -> None:
    """WEB-SAF-1: a sentence of a megabyte takes 400 characters of a page."""
    put(bare_engine, t.rollouts, rollout_row("ro-1", why="w" * 1_000_000))
    assert len(bare_client.get("/rollouts/ro-1").text) < 10_000


@pytest.mark.parametrize("path", [*PATHS, "/nowhere/else", "/devices/nobody", "/fragments/devices"])
def test_every_page_allows_its_own_server_alone(client: Client, path: str) -> None:
    """WEB-SAF-2: the policy is on every answer of ours, and the page keeps to it."""
    answer = client.get(path)
    if path == "/nowhere/else":
        return
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", PATHS)
def test_nothing_comes_from_elsewhere(client: Client, path: str) -> None:
    """WEB-SAF-2: (API-9) no inline script or style, and every address is a path of this server."""
    tags = Page(client.get(path).text).tags
    for tag, attrs in tags:
        assert tag != "style"
        assert "style" not in attrs
        for name in ("src", "href", "hx-get", "action", "srcset"):
            assert re.match(r"/(?!/)|[#?]", attrs.get(name) or "/"), (tag, attrs)


@pytest.mark.parametrize("name", ["outrider.css", "live.js"])
def test_our_files_load_nothing(name: str) -> None:
    """WEB-SAF-2: neither do the styles and the script."""
    found = assets.asset(name)
    assert found is not None
    assert not re.search(rb"https?:|@import|url\(", found.body)


def test_static_files_are_kept_by_version(client: Client) -> None:
    """WEB-SAF-3: a year with the version in the address; without it, or with an old one, the browser asks again."""
    kept = client.get(assets.url("outrider.css"))
    assert kept.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert kept.headers["content-type"] == "text/css; charset=utf-8"
    assert client.get("/static/outrider.css?v=old").headers["cache-control"] == "no-cache"
    assert client.get("/static/vendor/htmx.LICENSE.txt").text.startswith("htmx")


@pytest.mark.parametrize("name", ["../pages.py", "%2e%2e/pages.py", "/etc/passwd", "vendor", "", "outrider.css/"])
def test_no_other_file_is_served(client: Client, name: str) -> None:
    """WEB-SAF-3: what is not listed does not exist."""
    assert client.get(f"/static/{name}").status_code == 404


@pytest.mark.parametrize("odd", ODD)
def test_odd_json_never_fails_a_page(engine: Engine, odd: Any) -> None:
    """WEB-SAF-4: whatever form a stored value has, every page that shows it answers."""
    put(engine, t.devices, device_row("odd", facts=odd, digest=None, attest_digest=None, model=None, version=None))
    put(engine, t.rollouts, rollout_row("ro-odd", spec=odd))
    put(engine, t.executions, execution_row("ro-odd", "odd", 1, phase=99))
    report = {"device": "odd", "epoch": 1, "seq": 1, "state": "?", "detail": odd, "at_ms": -5, "clock_ok": 0}
    put(engine, t.execution_events, {**report, "received_ms": 2**62, "applied": 0})
    put(engine, t.runs, run_row("r-odd", reason=odd, progress=odd, result=odd))
    put(
        engine,
        t.snapshots,
        {
            "digest": digest("odd"),
            "model": "m",
            "file": "f",
            "n": 1,
            "sources": odd,
            "created_by": "x",
            "created_ms": 2**62,
        },
    )
    client = Client(application(engine))
    for path in ("/", "/devices/odd", "/rollouts/ro-odd", f"/lineage/snapshot/{digest('odd')}"):
        assert client.get(path).status_code in (200, 404), path
    assert client.get("/devices/odd").status_code == 200
