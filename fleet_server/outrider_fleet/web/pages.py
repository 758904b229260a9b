"""The web pages' routes.

1. Pages read, and change nothing; each is built from one consistent view of the database.
2. A page works without scripts; with them its parts are fetched again (`/fragments/…`) when the server says `change`.
3. Scripts and styles come from this package alone.

    app.include_router(router(database.engine, "my-fleet"))
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection, Engine

from outrider_fleet.web import assets, sections
from outrider_fleet.web.render import Renderer
from outrider_fleet.web.sections import SECTIONS, View, Want

_YEAR_S = 31_536_000
After = Annotated[str, Query(max_length=200)]
Version = Annotated[str, Query(max_length=64)]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Pages:
    """Answers one request each; `now_ms` is the clock in ms UTC."""

    def __init__(self, engine: Engine, fleet: str, now_ms: Callable[[], int]) -> None:
        self._engine = engine
        self._render = Renderer(fleet)
        self._now_ms = now_ms

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._engine.connect() as connection, connection.begin():
            yield connection

    def overview(self) -> HTMLResponse:
        """The front page: every section."""
        with self._read() as connection:
            now_ms = self._now_ms()
            views = {name: {**s.read(connection, Want(now_ms, s.shown)), "full": False} for name, s in SECTIONS.items()}
        return self._render.page("overview.html", title="", sections=SECTIONS, views=views)

    def section(self, name: str, after: After = "") -> HTMLResponse:
        """One section as a page of its own, with all its rows, page by page."""
        section = SECTIONS.get(name)
        if section is None:
            return self._missing(f"There is no page /{name}.")
        view = self._section_view(name, after, full=True)
        return self._render.page("section.html", title=section.title, section=section, after=after, view=view)

    def section_fragment(self, name: str, after: After = "", full: bool = False) -> HTMLResponse:
        """What one section shows now."""
        if name not in SECTIONS:
            return self._missing(f"There is no section {name}.")
        return self._render.page(f"sections/{name}.html", view=self._section_view(name, after, full=full))

    def _section_view(self, name: str, after: str, *, full: bool) -> View:
        section = SECTIONS[name]
        with self._read() as connection:
            view = section.read(connection, Want(self._now_ms(), 200 if full else section.shown, after))
        return {**view, "full": full}

    def device(self, device: str, after: After = "") -> HTMLResponse:
        """One device."""
        return self._detail("device", device, after)

    def rollout(self, rollout: str, after: After = "") -> HTMLResponse:
        """One rollout with its executions."""
        return self._detail("rollout", rollout, after)

    def detail_fragment(self, kind: str, name: str, after: After = "") -> HTMLResponse:
        """What the page of one device or rollout shows now."""
        return self._detail(kind, name, after, fragment=True)

    def _detail(self, kind: str, name: str, after: str, *, fragment: bool = False) -> HTMLResponse:
        read = {"device": sections.device_page, "rollout": sections.rollout_page}.get(kind)
        view = None
        if read is not None:
            with self._read() as connection:
                view = read(connection, name, Want(self._now_ms(), after=after))
        if view is None:
            return self._missing(f"There is no {kind} {name}.")
        if fragment:
            return self._render.page(f"sections/{kind}.html", view={**view, "name": name})
        return self._render.page(
            f"{kind}.html", title=f"{kind.capitalize()} {name}", after=after, view={**view, "name": name}
        )

    def lineage(self, kind: str, name: str) -> HTMLResponse:
        """Where one thing came from, and what came of it."""
        with self._read() as connection:
            view = sections.lineage_page(connection, kind, name)
        if view is None:
            return self._missing(f"Lineage knows no {kind} {name}.")
        return self._render.page("lineage.html", title=f"Lineage of {kind} {name}", kind=kind, view=view)

    def static(self, name: str, v: Version = "") -> Response:
        """A file of the package; kept by browsers for a year where the address says its version."""
        found = assets.asset(name)
        if found is None:
            return self._missing(f"There is no file {name}.")
        kept = f"public, max-age={_YEAR_S}, immutable" if v == found.version else "no-cache"
        headers = {"Cache-Control": kept, "ETag": f'"{found.version}"', "X-Content-Type-Options": "nosniff"}
        return Response(found.body, media_type=found.media_type, headers=headers)

    def _missing(self, message: str) -> HTMLResponse:
        return self._render.page("missing.html", status=404, title="Not found", message=message[:300])


def router(engine: Engine, fleet: str, *, now_ms: Callable[[], int] = _now_ms) -> APIRouter:
    """All pages, fragments and static files of one fleet, read from `engine`."""
    pages = Pages(engine, fleet, now_ms)
    routes = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    for path, answer in (
        ("/", pages.overview),
        ("/static/{name:path}", pages.static),
        ("/fragments/{name}", pages.section_fragment),
        ("/fragments/{kind}/{name:path}", pages.detail_fragment),
        ("/devices/{device:path}", pages.device),
        ("/rollouts/{rollout:path}", pages.rollout),
        ("/lineage/{kind}/{name:path}", pages.lineage),
    ):
        routes.add_api_route(path, answer, methods=["GET"], response_model=None)
    for name in SECTIONS:
        routes.add_api_route(f"/{name}", _section_route(pages, name), methods=["GET"], response_model=None)
    return routes


def _section_route(pages: Pages, name: str) -> Callable[[str], HTMLResponse]:
    def answer(after: After = "") -> HTMLResponse:
        return pages.section(name, after)

    return answer
