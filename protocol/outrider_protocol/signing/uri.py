"""Addresses of keys on PKCS#11 tokens (RFC 7512), as far as one key needs it; pure.

1. The token is named by its label or serial number, the key by its label or id.
2. A PIN in the address is refused: command lines and configuration files are read by others. `pin-source` names a file.
3. An attribute that is not known is refused: it may have been meant to narrow the choice.

>>> uri = TokenUri.parse("pkcs11:token=fleet;object=root%201?pin-source=file:/run/pin")
>>> uri.token, uri.key_label, uri.pin_file
('fleet', 'root 1', '/run/pin')
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, unquote_to_bytes

from outrider_protocol.signing.errors import TokenError

SCHEME = "pkcs11:"
_PATH = frozenset({"token", "serial", "object", "id", "type"})
_QUERY = frozenset({"module-path", "pin-source"})


@dataclass(frozen=True)
class TokenUri:
    """One private key on one token; `module` is the path of the token's library where the address names it."""

    token: str | None = None
    serial: str | None = None
    key_label: str | None = None
    key_id: bytes | None = None
    module: str | None = None
    pin_file: str | None = None

    @classmethod
    def parse(cls, text: str) -> TokenUri:
        """Read an address; raises `TokenError`."""
        path, _, query = text.removeprefix(SCHEME).partition("?")
        named = _attributes(path, ";", _PATH)
        asked = _attributes(query, "&", _QUERY)
        if not text.startswith(SCHEME) or not named.keys() & {"object", "id"}:
            raise TokenError(f"{text[:200]!r} names no key (object=… or id=…)")
        if named.get("type", "private") != "private":
            raise TokenError(f"type={named['type']}: a private key is needed")
        return cls(
            token=_text(named, "token"),
            serial=_text(named, "serial"),
            key_label=_text(named, "object"),
            key_id=unquote_to_bytes(named["id"]) if "id" in named else None,
            module=_text(asked, "module-path"),
            pin_file=(_text(asked, "pin-source") or "").removeprefix("file:") or None,
        )

    @property
    def name(self) -> str:
        """The key in words."""
        key = self.key_label or (self.key_id or b"").hex()
        return f"{key} on token {self.token or self.serial or '(the only one)'}"


def _attributes(text: str, separator: str, known: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in filter(None, text.split(separator)):
        name, equals, value = part.partition("=")
        if name == "pin-value":
            raise TokenError("pin-value: a PIN does not belong into an address; use pin-source, OUTRIDER_PIN_FILE")
        if name not in known or not equals or name in found:
            raise TokenError(f"{name[:40]!r} is not known in a key's address, or stands there twice")
        found[name] = value
    return found


def _text(attributes: dict[str, str], name: str) -> str | None:
    return unquote(attributes[name]) if name in attributes else None
