"""The pages over a real database in the middle of the watch story."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from outrider_fleet.store import tables as t
from outrider_fleet.web import pages
from outrider_fleet.web.sections import SECTIONS
from tests.fleet.web.conftest import (
    OUTBOX,
    Client,
    ago,
    application,
    device_row,
    digest,
    execution_row,
    put,
    rollout_row,
)

PAGES = [
    "/",
    *(f"/{name}" for name in SECTIONS),
    "/devices/watch-08",
    "/rollouts/ro-000002",
    "/lineage/release/har/1.1",
    "/devices/nobody",
]


RUN: dict[str, Any] = {
    **dict.fromkeys(("model", "state", "requested_by", "snapshot", "base_version", "version"), "x"),
    "reason": {},
    "counter": 9,
    "created_ms": ago(1),
    "updated_ms": ago(1),
}


def text(html: str) -> str:
    """What a reader sees, tags and runs of white space taken out."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def test_the_front_page_holds_every_section(client: Client) -> None:
    """WEB-PAG-1: figures of every section stand on the front page."""
    page = text(client.get("/").text)
    for said in (
        "7 of 8",
        "8 of 8 attest har 1.1",
        "ro-000003",
        "watch-08",
        "share alarmed 14 %",
        "int8",
        "run-000002",
    ):
        assert said in page


@pytest.mark.parametrize("name", SECTIONS)
def test_a_fragment_is_what_the_page_holds(client: Client, name: str) -> None:
    """WEB-PAG-1: the fragment that replaces a part is the same part."""
    fragment = client.get(f"/fragments/{name}").text
    assert re.sub(r"\s+", "", fragment) in re.sub(r"\s+", "", client.get("/").text)


@pytest.mark.parametrize(("kind", "name"), [("device", "watch-01"), ("rollout", "ro-000003")])
def test_a_detail_fragment_is_what_its_page_holds(client: Client, kind: str, name: str) -> None:
    """WEB-PAG-1: also for the page of one device or rollout."""
    fragment = client.get(f"/fragments/{kind}/{name}").text
    assert re.sub(r"\s+", "", fragment) in re.sub(r"\s+", "", client.get(f"/{kind}s/{name}").text)


def test_parts_list_words_that_the_page_knows(client: Client) -> None:
    """WEB-LIV-1: what the server says of changes, and what parts listen to, are the same words."""
    for path in ("/", "/devices/watch-01", "/rollouts/ro-000003"):
        page = client.get(path).text
        (known,) = re.findall(r'data-words="([^"]+)"', page)
        assert {word for part in re.findall(r'data-live="([^"]+)"', page) for word in part.split()} <= set(
            known.split()
        )


def test_pages_lead_on_by_plain_links(client: Client) -> None:
    """WEB-PAG-2: every link of the front page is an address that answers, without any script."""
    links = set(re.findall(r'href="(/[^"#]*)"', client.get("/").text))
    assert {"/devices/watch-01", "/rollouts/ro-000003", "/lineage/release/har/1.1"} <= links
    for link in sorted(links):
        assert client.get(link.replace("&amp;", "&")).status_code == 200, link


def test_lists_are_paged_by_key(bare_engine: Engine, bare_client: Client) -> None:
    """WEB-PAG-3: 450 devices are three pages of at most 200, each device once."""
    names = [f"dev-{number:04}" for number in range(450)]
    put(bare_engine, t.devices, *(device_row(name) for name in names))
    assert _walk(bare_client, "/devices", r'href="/devices/(dev-\d+)"') == [names[:200], names[200:400], names[400:]]


def test_rollouts_of_the_same_moment_are_paged(bare_engine: Engine, bare_client: Client) -> None:
    """WEB-PAG-3: newest first; equal times are told apart by id."""
    names = [f"ro-{number:06}" for number in range(250)]
    put(bare_engine, t.rollouts, *(rollout_row(name, created_ms=ago(5)) for name in names))
    seen = _walk(bare_client, "/rollouts", r'href="/rollouts/(ro-\d+)"')
    assert [len(page) for page in seen] == [200, 50]
    assert [name for page in seen for name in page] == names[::-1]


def test_executions_are_paged(bare_engine: Engine, bare_client: Client) -> None:
    """WEB-PAG-3: so are the executions of one rollout."""
    put(bare_engine, t.rollouts, rollout_row("ro-1"))
    put(bare_engine, t.executions, *(execution_row("ro-1", f"dev-{n:04}", 1) for n in range(230)))
    seen = _walk(bare_client, "/rollouts/ro-1", r'href="/devices/(dev-\d+)"')
    assert [len(page) for page in seen] == [200, 30]


def _walk(client: Client, path: str, row: str) -> list[list[str]]:
    found, following = [], path
    while following:
        page = client.get(following).text
        found.append(re.findall(row, page))
        more = re.search(r'href="([^"]*\?after=[^"]*)"', page)
        following = (more[1] if more[1].startswith("/") else path + more[1]) if more else ""
    return found


@pytest.mark.parametrize(
    "path",
    ["/devices/nobody", "/rollouts/ro-9", "/lineage/release/none/1", "/fragments/none", "/fragments/a/b", "/static/x"],
)
def test_what_is_unknown_says_so(client: Client, path: str) -> None:
    """WEB-PAG-4: status 404, and a page with a way back."""
    answer = client.get(path)
    assert answer.status_code == 404
    assert "There is no" in answer.text or "knows no" in answer.text


@pytest.mark.parametrize("key", ["x", "1", "99999999999999999999,a", "-1,b", ",", "1," + "z" * 150])
def test_a_key_that_nobody_gave_is_no_failure(client: Client, key: str) -> None:
    """WEB-PAG-3: an address that was changed by hand shows some page, or none, of the list."""
    assert client.get(f"/rollouts?after={key}").status_code == 200


def test_an_empty_fleet_says_what_to_do(bare_client: Client) -> None:
    """WEB-PAG-5: every section of an empty fleet."""
    page = text(bare_client.get("/").text)
    for said in ("token create --kind device", "rollout create", "outrider-compiler publish", "No training run yet"):
        assert said in page


def test_pages_only_read(engine: Engine) -> None:
    """WEB-PAG-6: no route but GET, and no row is written."""
    routes: list[Any] = list(pages.router(engine, "f").routes)
    assert {method for route in routes for method in route.methods} == {"GET"}
    counts = _counts(engine)
    client = Client(application(engine))
    assert all(client.get(path).status_code in (200, 404) for path in PAGES)
    assert _counts(engine) == counts


def _counts(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        tables = t.metadata.tables.values()
        return {
            table.name: connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables
        }


def test_why_is_the_stored_sentence(client: Client) -> None:
    """WEB-PAG-7: the same words as `outrider-fleet why`."""
    assert "shadow: 52 of 60 bad (86.7%, 95% bounds 78.0% to 92.2%); above: the limit is 35.0%" in text(
        client.get("/rollouts/ro-000002").text
    )


def test_the_rollout_page_shows_who_failed_and_why(client: Client) -> None:
    """WEB-PAG-7: executions with their order, error and hint."""
    page = text(client.get("/rollouts/ro-000002").text)
    assert "ShadowDisagreement: the candidate disagrees with what runs here" in page
    assert "26 of 30 disagree" in page
    assert "0/6 exposed" in page


def test_drift_says_who_cleared_it(client: Client) -> None:
    """WEB-PAG-8: phase, what cleared it, and when; a device that is not cleared says nothing of it."""
    cleared, open_ = (text(client.get(f"/devices/{name}").text) for name in ("watch-05", "watch-07"))
    assert "cleared by labelled check 2 min ago" in cleared
    assert "rebaselining" in open_
    assert "cleared by" not in open_


def test_lineage_goes_both_ways(client: Client) -> None:
    """WEB-PAG-10: from one prediction to the recordings, and from a recording to the rollout."""
    back = text(client.get(f"/lineage/prediction/watch-05/{OUTBOX}/1/3").text)
    assert "har/1.0" in back
    assert "p-0005" in back
    assert "watch-05/" not in back.replace(f"watch-05/{OUTBOX}/1/3", "")
    for said in ("run-000001", "p-0008", "person-1/recording-1", "person-8/recording-7"):
        assert said in text(client.get("/lineage/rollout/ro-000003").text)
    forth = text(client.get("/lineage/recording/person-7/recording-1").text)
    assert all(said in forth for said in (digest("snap")[7:19], "run-000001", "har/1.1", "ro-000003"))


def test_a_release_alone_has_a_lineage_page(client: Client, engine: Engine) -> None:
    """WEB-PAG-10: what exists and is made from nothing says so; what does not exist is unknown."""
    put(engine, t.runs, {**RUN, "id": "run-alone"})
    assert "it begins here" in client.get("/lineage/run/run-alone").text
    assert client.get("/lineage/run/run-none").status_code == 404


@pytest.mark.parametrize("path", PAGES)
def test_pages_can_be_read_by_everybody(client: Client, path: str) -> None:
    """WEB-ACC-1: language, one heading, header cells with scope, pictures with a label or hidden from readers aloud."""
    page = client.get(path).text
    assert '<html lang="en">' in page
    assert len(re.findall(r"<h1[ >]", page)) == 1
    assert all("scope=" in cell for cell in re.findall(r"<th\b[^>]*>", page))
    assert all("aria-label=" in svg or "aria-hidden=" in svg for svg in re.findall(r"<svg\b[^>]*>", page))
    assert "<table" not in page or "<th " in page
