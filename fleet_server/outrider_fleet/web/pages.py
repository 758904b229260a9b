"""The web pages' routes.

1. Pages read, and change nothing.
2. Scripts and styles come from this package alone.
"""

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from sqlalchemy import Engine


def router(engine: Engine, fleet: str) -> APIRouter:
    """All pages, fragments and static files of one fleet, read from `engine`."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/", response_class=HTMLResponse)
    def overview() -> str:
        """The front page."""
        return f"<!doctype html><title>{engine.dialect.name}</title>"

    del fleet
    return routes
