"""The applications: routes, limits, allowed hosts, errors in one form. Devices have a door of their own."""

from fastapi import Depends, FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware

from outrider_fleet.api import audit, devices, failures, joining, releases, rollouts, stream, tokens, training
from outrider_fleet.api.access import may_read
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
    for module in (joining, devices, releases, rollouts, training, audit, tokens, stream):
        app.include_router(module.router, prefix=PREFIX)
    shown = pages.router(services.fleet.database.engine, services.fleet.config.name)
    app.include_router(shown, dependencies=[Depends(may_read)])  # [API-6] they tell what the API tells
    failures.install(app)
    app.add_middleware(BoundedBodies)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(services.fleet.config.api.allowed_hosts))
    return app


def create_door(services: Services) -> FastAPI:
    """What devices may ask from anywhere, and nothing else."""
    app = FastAPI(title="Outrider enrolment", version="1", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.services = services
    app.include_router(joining.router, prefix=PREFIX)
    failures.install(app)
    app.add_middleware(BoundedBodies)
    return app
