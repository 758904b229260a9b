"""A TUF repository that tests bend: roles are objects, what was published are bytes, and every request is written down.

`publish` signs roles anew and puts their bytes where clients look; what a role says may be changed before, and what was
published may be changed after it.
"""

from __future__ import annotations

import copy
import datetime as dt
import threading
from collections.abc import Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

TOP = ("root", "targets", "snapshot", "timestamp")
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
LATER = NOW + dt.timedelta(days=30)
_COMPACT = JSONSerializer(compact=True)


def signer(kind: str = "ed25519") -> CryptoSigner:
    """A new key of a type that the specification names."""
    if kind.startswith("rsa"):
        return CryptoSigner.generate_rsa(scheme=kind)
    return CryptoSigner.generate_ecdsa() if kind.startswith("ecdsa") else CryptoSigner.generate_ed25519()


class Repository:
    """All roles with one key each; `hashes` pins metadata by hash too."""

    def __init__(self, *, hashes: bool = False, consistent: bool = True) -> None:
        self.hashes = hashes
        self.roles: dict[str, Any] = {
            "root": Root(expires=LATER, consistent_snapshot=consistent),
            "targets": Targets(expires=LATER),
            "snapshot": Snapshot(expires=LATER),
            "timestamp": Timestamp(expires=LATER),
        }
        self.signers: dict[str, list[CryptoSigner]] = {}
        self.published: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        for role in TOP:
            self.add_key(role)
        for role in TOP:
            self._put(role)

    # ---------------------------------------------------------------- roles

    @property
    def root(self) -> Root:
        return self.roles["root"]

    @property
    def targets(self) -> Targets:
        return self.roles["targets"]

    @property
    def snapshot(self) -> Snapshot:
        return self.roles["snapshot"]

    @property
    def timestamp(self) -> Timestamp:
        return self.roles["timestamp"]

    def add_key(self, role: str, key: CryptoSigner | None = None, delegator: str = "root") -> CryptoSigner:
        """One key more for a role: listed, and signing from now on."""
        key = key or signer()
        self.roles[delegator].add_key(key.public_key, role)
        self.signers.setdefault(role, []).append(key)
        return key

    def replace_keys(self, role: str) -> None:
        """Other keys, as many as the threshold."""
        self.root.roles[role].keyids.clear()
        self.signers[role] = []
        for _ in range(self.root.roles[role].threshold):
            self.add_key(role)

    def delegate(self, delegator: str, role: str, paths: list[str], *, terminating: bool = False) -> Targets:
        """Let `delegator` delegate paths to `role`, with a key of this delegation's own."""
        parent = self.roles[delegator]
        parent.delegations = parent.delegations or Delegations({}, {})
        parent.delegations.roles[role] = DelegatedRole(role, [], 1, terminating, paths=paths)
        self.roles.setdefault(role, Targets(expires=LATER))
        self.add_key(role, delegator=delegator)
        return self.roles[role]

    def delegate_bins(self, prefix: str, bits: int) -> list[str]:
        """Hash bins: the names of the 2^bits roles."""
        bins = SuccinctRoles([], 1, bits, prefix)
        self.targets.delegations = Delegations({}, None, bins)
        key = signer()
        self.targets.add_key(key.public_key)
        for name in bins.get_roles():
            self.roles[name], self.signers[name] = Targets(expires=LATER), [key]
        return list(bins.get_roles())

    def add_target(self, role: str, path: str, data: bytes, hashes: Iterable[str] = ("sha256",)) -> TargetFile:
        """List a target, and serve it under every name that a client may ask for."""
        info = TargetFile.from_data(path, data, list(hashes))
        self.roles[role].targets[path] = info
        self.serve_target(info, data)
        return info

    def serve_target(self, info: TargetFile, data: bytes) -> None:
        """Serve bytes for a listed target, right or wrong."""
        folder, slash, name = info.path.rpartition("/")
        names = [f"{value}.{name}" for value in info.hashes.values()] if self.root.consistent_snapshot else [name]
        self.files |= {f"targets/{folder}{slash}{item}": data for item in names}

    # ---------------------------------------------------------------- publishing

    def publish(self, *roles: str, bump: bool = True) -> None:
        """Sign roles anew, with the next version unless `bump` is false."""
        for role in roles:
            if bump and role in self.published:
                self.roles[role].version += 1
            self._put(role)

    def everything(self) -> None:
        """All roles, in the order in which they refer to each other."""
        self.publish("root", *(role for role in self.roles if role not in TOP), "targets", "snapshot", "timestamp")

    def sign(self, role: str) -> bytes:
        """The bytes of a role as it is now."""
        metadata = Metadata(copy.deepcopy(self.roles[role]))
        for key in self.signers[role]:
            metadata.sign(key, append=True)
        return metadata.to_bytes(_COMPACT)

    def name(self, role: str, version: int | None = None) -> str:
        """The file of a role, as clients ask for it."""
        version = self.roles[role].version if version is None else version
        prefixed = role == "root" or (self.root.consistent_snapshot and role != "timestamp")
        return (
            f"metadata/{version}.{quote(role, safe='')}.json" if prefixed else f"metadata/{quote(role, safe='')}.json"
        )

    def _put(self, role: str) -> None:
        if role not in ("root", "snapshot", "timestamp"):
            self.put(role, self.sign(role))
            self.snapshot.meta[f"{role}.json"] = self._meta(role)
            return
        self.put(role, self.sign(role))
        if role == "snapshot":
            self.timestamp.snapshot_meta = self._meta(role)

    def put(self, role: str, data: bytes) -> None:
        """Serve these bytes as the role's present version."""
        self.published[role] = data
        self.files[self.name(role)] = data

    def _meta(self, role: str) -> MetaFile:
        version = self.roles[role].version
        if not self.hashes:
            return MetaFile(version)
        return MetaFile.from_data(version, self.published[role], ["sha256"])


class Server:
    """Serves repositories by name on loopback."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                name, _, path = self.path.lstrip("/").partition("/")
                found = outer.repositories[name]
                found.requests.append(path)
                data = found.files.get(path if path.startswith("metadata/") else unquote(path))
                self.send_response(404 if data is None else 200)
                self.send_header("Content-Length", str(len(data or b"")))
                self.end_headers()
                with suppress(ConnectionError):  # endless answers are cut off
                    self.wfile.write(data or b"")

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
