"""The command line's way to the server: where it is, who is asking, and what its refusals mean.

1. The address is `--api`, or what the server of `--home` wrote to `run/endpoints.json`.
2. The token is `--token`, `OUTRIDER_FLEET_TOKEN`, or the operator's token in the home (readable by its owner alone).
3. A refusal is printed as `error: …` and `hint: …`; its exit status says its kind.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, NoReturn

import click

from outrider_fleet.errors import ConfigError, ConflictError, FleetError, InvalidRequestError, UnavailableError

ENDPOINTS: Final = Path("run/endpoints.json")
OPERATOR_TOKEN: Final = Path("keys/operator.token")
TIMEOUT_S: Final = 30.0
_STATUS: Final = {400: 2, 401: 5, 403: 5, 404: 4, 409: 4, 413: 3, 422: 3, 503: 1}
_KIND_STATUS: Final = ((ConfigError, 2), (InvalidRequestError, 2), (UnavailableError, 1), (ConflictError, 4))


class RefusedByServerError(click.ClickException):
    """A refusal, as the operator sees it."""

    def __init__(self, status: int, error: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.error, self.hint = error, hint
        setattr(self, "exit_code", status)  # noqa: B010 - click declares it as a class variable

    def show(self, file: IO[Any] | None = None) -> None:
        """Print error and hint, to standard error unless told otherwise."""
        click.echo(f"error: {self.error}: {self.message}", file=file, err=True)
        if self.hint:
            click.echo(f"hint: {self.hint}", file=file, err=True)


def refuse(error: FleetError) -> NoReturn:
    """End the command with a local error."""
    status = next((status for kind, status in _KIND_STATUS if isinstance(error, kind)), 3)
    raise RefusedByServerError(status, type(error).__name__, str(error), error.hint) from error


@dataclass(frozen=True)
class Connection:
    """An address and a token; every call returns decoded JSON or ends the command."""

    home: Path
    api: str | None
    token: str | None

    def get(self, path: str) -> Any:
        """GET below `/api/v1`."""
        return self.call("GET", path)

    def post(self, path: str, body: object = None, **headers: str) -> Any:
        """POST JSON below `/api/v1`."""
        return self.call("POST", path, body, headers)

    def call(self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> Any:
        """Any request below `/api/v1`; raises `RefusedByServerError`."""
        import httpx

        sent = {key.replace("_", "-"): value for key, value in (headers or {}).items()} | self._bearer()
        try:
            answer = httpx.request(
                method, f"{self._address()}/api/v1{path}", json=body, headers=sent, timeout=TIMEOUT_S, trust_env=False
            )
        except httpx.InvalidURL as error:
            raise self._no_address(error) from error
        except httpx.HTTPError as error:
            hint = "Is the server running? `outrider-fleet --home DIR up` starts it."
            raise RefusedByServerError(1, "UnavailableError", str(error), hint) from error
        if answer.is_error:
            raise _refusal(answer.status_code, answer.content)
        return answer.json() if answer.content else None

    def download(self, path: str, file: IO[bytes]) -> None:
        """GET bytes below `/api/v1` into a file; ends the command like `call`."""
        import httpx

        headers, url = self._bearer(), f"{self._address()}/api/v1{path}"
        try:
            with (
                httpx.Client(timeout=TIMEOUT_S, trust_env=False) as client,
                client.stream("GET", url, headers=headers) as a,
            ):
                if a.is_error:
                    raise _refusal(a.status_code, a.read())
                for block in a.iter_bytes():
                    file.write(block)
        except httpx.HTTPError as error:
            raise RefusedByServerError(
                1, "UnavailableError", str(error), "Run the command again: it goes on."
            ) from error

    def _address(self) -> str:
        if self.api:
            return self.api.rstrip("/")
        try:
            return str(json.loads((self.home / ENDPOINTS).read_bytes())["api"]).rstrip("/")
        except PermissionError:
            raise  # whether one runs cannot be told: `Commands` says which place may not be read
        except (OSError, ValueError, KeyError, TypeError) as error:
            hint = "Start it with `outrider-fleet --home DIR up`, or name another server with --api URL."
            message = f"no server is running on {self.home}"
            raise RefusedByServerError(1, "UnavailableError", message, hint) from error

    def _no_address(self, error: Exception) -> RefusedByServerError:
        hint = "Give it as http://HOST:PORT."
        return RefusedByServerError(2, "InvalidRequestError", f"{self.api} is no address: {error}", hint)

    def _bearer(self) -> dict[str, str]:
        token = self._token()
        if token and not (token.isascii() and token.isprintable()):
            hint = "Give what `outrider-fleet token create` printed, no more."
            raise RefusedByServerError(5, "UnauthenticatedError", "the token holds what no token holds", hint)
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _token(self) -> str | None:
        if self.token:
            return self.token
        path = self.home / OPERATOR_TOKEN
        return path.read_text("ascii").strip() if path.is_file() else None


def _refusal(status: int, content: bytes) -> RefusedByServerError:
    try:
        value = json.loads(content)
        said = (str(value["error"]), str(value["message"]), str(value["hint"]))
    except (ValueError, KeyError, TypeError):
        said = (f"HTTP {status}", content[:200].decode("utf-8", "replace"), "Is this an Outrider fleet server?")
    return RefusedByServerError(_STATUS.get(status, 1), *said)
