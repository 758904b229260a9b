"""The devices' door: HTTPS for enrolment and renewal, on an address that the field can reach.

1. Its certificate comes from the fleet's authority, root included: a token's fingerprint pins it.
2. It serves what devices ask, and nothing that operators do.
3. It runs in a thread of its own and ends with the server.
"""

import socket
import threading
from typing import Final

import uvicorn

from outrider_fleet.api import application
from outrider_fleet.api.services import Services
from outrider_fleet.config import EnrolmentConfig, Home
from outrider_fleet.errors import ConflictError
from outrider_fleet.pki.ca import LOOPBACK, CertificateAuthority

STOP_TIMEOUT_S: Final = 5.0


class Door:
    """Listens from `start` to `stop`."""

    def __init__(
        self, home: Home, config: EnrolmentConfig, authority: CertificateAuthority, services: Services
    ) -> None:
        hosts = tuple(dict.fromkeys((*config.names, config.host, *LOOPBACK)))
        chain, key = authority.issue_server(hosts, with_root=True).write(home.broker, "door")
        app = application.create_door(services)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                ssl_certfile=str(chain),
                ssl_keyfile=str(key),
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=1,
                lifespan="off",
            )
        )
        self._listener = _listen(config.host, config.port)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._listener]}, name="door", daemon=True
        )

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._server.should_exit = True
        self._thread.join(STOP_TIMEOUT_S)
        self._listener.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=256)
    except OSError as error:
        raise ConflictError(f"[enrolment] {host}:{port}: {error.strerror}") from error
