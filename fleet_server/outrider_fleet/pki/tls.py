"""TLS contexts of the server's own connections, from PEM files.

1. TLS 1.2 or newer; a client always checks the server.
"""

import ssl
from pathlib import Path


def client_context(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """Connects as the holder of `certificate` to servers that `ca` vouches for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key)
    return context


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Serves HTTPS with `certificate`; clients prove themselves by token, not by certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    return context
