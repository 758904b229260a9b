"""Who acts: a name, and what the audit log records beside it.

1. People and machines are named by kind and name: `operator:local`, `runner:ci`, `device:dev-1`, `cli:eve`; the
   server's own parts are `engine`, `policy` and `server`.
2. A name is a text wherever it is stored; the token's id and the request's digest travel with it to the log.
"""

from typing import Self


class Actor(str):
    """A name that knows which token was shown (its id) and what was asked for (SHA-256 of the request)."""

    __slots__ = ("request_sha256", "token")
    token: str | None
    request_sha256: str | None

    def __new__(cls, name: str, token: str | None = None, request_sha256: str | None = None) -> Self:
        """Name an actor.

        >>> Actor("operator:eve", token="3f2a") == "operator:eve"
        True
        """
        actor = super().__new__(cls, name)
        actor.token, actor.request_sha256 = token, request_sha256
        return actor
