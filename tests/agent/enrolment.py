"""A server that enrols whoever asks, and can be made to answer wrongly: plain HTTP or TLS, on loopback."""

from __future__ import annotations

import datetime as dt
import json
import ssl
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from outrider_protocol.messages import EnrolRequest, EnrolResponse
from tests.agent.supervisor.house import Authority

ROOT = '{"signed":{"version":1}}'


class FleetServer:
    """Answers enrolments with certificates of its authority."""

    def __init__(self, authority: Authority, tls: bool) -> None:
        self.authority, self.requests = authority, list[EnrolRequest]()
        self.changes: dict[str, str] = {}
        self.refusal: tuple[int, dict[str, str]] | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status, answer = outer.answer(self.path, body)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            chain = authority.directory / "chain.pem"
            parts = ("server.pem", "ca.pem")
            chain.write_bytes(b"".join((authority.directory / part).read_bytes() for part in parts))
            context.load_cert_chain(chain, authority.directory / "server.key")
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str, body: bytes) -> tuple[int, bytes]:
        assert path == "/api/v1/enrol"
        self.requests.append(EnrolRequest.decode(body))
        if self.refusal is not None:
            return self.refusal[0], json.dumps(self.refusal[1]).encode()
        csr = x509.load_pem_x509_csr(self.requests[-1].csr_pem.encode())
        now = dt.datetime.now(dt.timezone.utc)
        builder = x509.CertificateBuilder().subject_name(csr.subject).issuer_name(self.authority.name)
        builder = builder.public_key(csr.public_key()).serial_number(5)  # type: ignore[arg-type]  # a P-256 key
        builder = builder.not_valid_before(now).not_valid_after(now + dt.timedelta(days=30))
        pem = builder.sign(self.authority.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()
        ca_pem = (self.authority.directory / "ca.pem").read_text()
        response = EnrolResponse(self.requests[-1].device, "test", pem, ca_pem, "127.0.0.1", 8883, ROOT)
        return 200, replace(response, **self.changes).encode()  # type: ignore[arg-type]  # fields of a test

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
