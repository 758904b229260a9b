"""One short MQTT connection: whether a client is let in, and whose session it takes over.

1. A clean session that says nothing and leaves at once; a session of the same client id ends by it (MQTT 3.1.4-2).
2. Refused in the handshake, refused by CONNACK, and closed without a word are all "not let in".
"""

import ssl
import struct
from contextlib import suppress
from socket import create_connection
from typing import Final

KEEPALIVE_S: Final = 5
ACCEPTED: Final = b"\x20\x02\x00\x00"
DISCONNECT: Final = b"\xe0\x00"


def visit(address: tuple[str, int], context: ssl.SSLContext, client_id: str, timeout_s: float) -> bool:
    """Connect and leave; returns whether the broker let this client in. Raises `OSError` where nobody listens."""
    with create_connection(address, timeout_s) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=address[0]) as secured:
                secured.sendall(_connect(client_id))
                answer = _read(secured, len(ACCEPTED))
                with suppress(OSError):
                    secured.sendall(DISCONNECT)
        except OSError:  # TLS 1.3 tells of a refused certificate with the first read
            return False
    return answer == ACCEPTED


def _connect(client_id: str) -> bytes:
    name = client_id.encode()
    body = b"\x00\x04MQTT\x04\x02" + struct.pack(">HH", KEEPALIVE_S, len(name)) + name
    return b"\x10" + bytes([len(body)]) + body


def _read(secured: ssl.SSLSocket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := secured.recv(size - len(data))):
        data += more
    return data
