"""Templates to responses, with the headers of every page.

1. Everything that is put into a template is escaped; templates mark nothing as safe.
2. A browser is told to load scripts, styles, pictures and data from this server alone, and to run no inline script.
3. A name that a template uses and nobody gave is an error, not an empty place.
"""

from typing import Any, Final

from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from outrider_fleet.web import assets

CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# What a `change` event may name; the pages fetch everything on a word that is not among these.
WORDS: Final = "devices drift executions labels predictions releases rollouts runs snapshots"
HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Renderer:
    """Renders the package's templates for one fleet."""

    def __init__(self, fleet: str) -> None:
        self._templates = Environment(
            loader=PackageLoader("outrider_fleet.web"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(fleet=fleet, asset=assets.url, words=WORDS)

    def page(self, template: str, *, status: int = 200, **view: Any) -> HTMLResponse:
        """One response; raises jinja2's errors for a template that asks for what `view` lacks."""
        return HTMLResponse(self._templates.get_template(template).render(**view), status, HEADERS)
