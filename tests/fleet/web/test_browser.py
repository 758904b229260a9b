"""The live page in a real Chromium, served by a real server; skipped where there is none."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvicorn
from fastapi.responses import StreamingResponse
from sqlalchemy import Engine, update

from outrider_fleet.store import tables as t
from tests.fleet.web.chromium import Chromium, find, launched
from tests.fleet.web.conftest import application

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find() is None, reason="no Chromium on this machine: the live page was not tried in a browser"),
]


@dataclass
class Site:
    """A running server of the pages; `tell` sends an event to every open page, `hang_up` ends the streams."""

    url: str
    engine: Engine
    loop: asyncio.AbstractEventLoop
    open_pages: list[asyncio.Queue[str | None]] = field(default_factory=list)

    def tell(self, *what: str) -> None:
        """Send one `change`."""
        self._put(f"event: change\ndata: {json.dumps({'what': what})}\n\n")

    def hang_up(self) -> None:
        """End every stream."""
        self._put(None)

    def _put(self, message: str | None) -> None:
        for queue in self.open_pages:
            self.loop.call_soon_threadsafe(queue.put_nowait, message)


@pytest.fixture
def site(engine: Engine) -> Iterator[Site]:
    """The pages and an event stream on a free port."""
    app = application(engine)
    running = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    served = Site(f"http://127.0.0.1:{listening.getsockname()[1]}", engine, asyncio.new_event_loop())

    @app.get("/api/v1/events")
    async def events() -> StreamingResponse:
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        served.open_pages.append(queue)

        async def stream() -> AsyncIterator[str]:
            yield "retry: 200\n\n"
            while (message := await queue.get()) is not None:
                yield message

        return StreamingResponse(stream(), media_type="text/event-stream")

    server = uvicorn.Server(uvicorn.Config(app, ws="none", lifespan="off", log_level="error"))

    def serve() -> None:
        asyncio.set_event_loop(served.loop)
        served.loop.call_soon(running.set)
        served.loop.run_until_complete(server.serve(sockets=[listening]))
        served.loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    assert running.wait(10)
    yield served
    server.should_exit = True
    served.hang_up()
    thread.join(10)
    listening.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chromium]:
    """A fresh Chromium."""
    with launched(find() or "", tmp_path / "profile") as opened:
        yield opened


LIVE = "document.getElementById('live-state').textContent === 'live'"


def opened(browser: Chromium, site: Site, path: str = "/") -> None:
    """Open a page and wait until it is live."""
    browser.open(site.url + path)
    browser.wait(LIVE)


def test_a_change_is_shown_without_reloading(browser: Chromium, site: Site) -> None:
    """WEB-LIV-1: the part that a change concerns is fetched again, the others stay; nothing breaks the policy."""
    opened(browser, site)
    browser.value("window.same = document.querySelector('#releases article')")
    with site.engine.begin() as connection:
        connection.execute(update(t.rollouts).where(t.rollouts.c.id == "ro-000003").values(why="all is <b>well</b>"))
    site.tell("predictions")
    site.tell("rollouts")
    browser.wait("document.querySelector('#rollouts .why').textContent.includes('all is <b>well</b>')")
    asked = [address for address in browser.addresses() if "/fragments/" in address]
    assert {address.removeprefix(site.url) for address in asked} == {"/fragments/summary", "/fragments/rollouts"}
    assert browser.value("window.same.isConnected")
    assert browser.complaints() == []
    assert all(address.startswith(site.url) for address in browser.addresses())


def test_an_unknown_word_concerns_all(browser: Chromium, site: Site) -> None:
    """WEB-LIV-1, WEB-LIV-3: a server with more words than the page; ten events are one fetch of each part."""
    opened(browser, site)
    for _ in range(10):
        site.tell("something-new")
    browser.wait("performance.getEntriesByType('resource').filter(e => e.name.includes('/fragments/')).length >= 6")
    asked = sorted(a.removeprefix(site.url) for a in browser.addresses() if "/fragments/" in a)
    assert asked == sorted(f"/fragments/{n}" for n in ("summary", "devices", "rollouts", "drift", "releases", "runs"))


def test_the_page_says_when_it_is_not_live(browser: Chromium, site: Site) -> None:
    """WEB-LIV-2: a broken stream is said, and everything is fetched again once it is back."""
    opened(browser, site)
    browser.value(
        "window.said = []; new MutationObserver(() => said.push(document.getElementById('live-state').textContent))"
        ".observe(document.getElementById('live-state'), {childList: true})"
    )
    with site.engine.begin() as connection:
        connection.execute(update(t.devices).where(t.devices.c.device == "watch-04").values(online=1))
    site.hang_up()
    browser.wait("said.includes('reconnecting') && " + LIVE)
    browser.wait("document.querySelector('#summary .figure').textContent.startsWith('8')")


def test_a_phone_shows_it_all(browser: Chromium, site: Site) -> None:
    """WEB-ACC-3: 390 pixels wide, nothing sticks out."""
    browser.size(390, 800)
    for path in ("/", "/devices/watch-08", "/rollouts/ro-000002", "/lineage/rollout/ro-000003"):
        opened(browser, site, path)
        assert browser.value("document.documentElement.scrollWidth") <= 390, path


def test_dark_follows_the_reader(browser: Chromium, site: Site, tmp_path: Path) -> None:
    """WEB-ACC-2: the ground changes with the preferred scheme, and the page can be drawn."""
    opened(browser, site)
    grounds = []
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        grounds.append(browser.value("getComputedStyle(document.body).backgroundColor"))
        browser.picture(tmp_path / f"{scheme}.png")
    assert grounds == ["rgb(244, 245, 242)", "rgb(16, 21, 28)"]
    assert (tmp_path / "dark.png").stat().st_size > 20_000
