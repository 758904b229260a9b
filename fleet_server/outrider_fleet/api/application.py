"""The application: routes, limits, allowed hosts, errors in one form."""

from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from outrider_fleet.api import audit, devices, failures, releases, rollouts, stream, tokens, training
from outrider_fleet.api.limits import BoundedBodies
from outrider_fleet.api.services import Services
from outrider_fleet.web import pages

PREFIX = "/api/v1"


def create(services: Services) -> FastAPI:
    """Make the application of one fleet."""
    app = FastAPI(
        title="Outrider fleet server",
        version="1",
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # its scripts would come from elsewhere
        redoc_url=None,
    )
    app.state.services = services
    for module in (devices, releases, rollouts, training, audit, tokens, stream):
        app.include_router(module.router, prefix=PREFIX)
    app.include_router(pages.router(services.fleet.database.engine, services.fleet.config.name))
    failures.install(app)
    app.add_middleware(BoundedBodies)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(services.fleet.config.api.allowed_hosts))
    return app
