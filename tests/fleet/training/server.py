"""A fleet server as far as a runner sees it: runs, leases, snapshots, roles. Real HTTP on the loopback."""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "runner-token"
SNAPSHOT = b"SQLite format 3\0 labelled windows"


@dataclass
class Run:
    """One run and what was said about it."""

    id: str = "r1"
    model: str = "har"
    fence: int = 0
    state: str = "queued"
    progress: list[str] = field(default_factory=list)
    finish: dict[str, Any] = field(default_factory=dict)


@dataclass
class State:
    """What the simulated server knows. `lease_expired` lets a claimed run be claimed again.

    While it is `down` it answers 503; while it is `torn` its answers break off in the middle.
    """

    runs: list[Run] = field(default_factory=list)
    role: bytes | None = None
    snapshot: bytes = SNAPSHOT
    lease_expired: bool = False
    down: bool = False
    torn: bool = False
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def claim(self) -> dict[str, Any] | None:
        for run in self.runs:
            if run.state == "queued" or (run.state == "claimed" and self.lease_expired):
                run.state, run.fence = "claimed", run.fence + 1
                digest = "sha256:" + hashlib.sha256(SNAPSHOT).hexdigest()
                return {
                    "run": {
                        "id": run.id,
                        "model": run.model,
                        "base_version": "1.0",
                        "version": "1.1",
                        "counter": 2,
                        "fence": run.fence,
                        "snapshot": digest,
                        "reason": "drift",
                    }
                }
        return None

    def tell(self, run_id: str, call: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        run = next(each for each in self.runs if each.id == run_id)
        with self.changed:
            if body["fence"] != run.fence or run.state != "claimed":
                return 409, {"error": "ConflictError", "message": "another runner has this run", "hint": "stop"}
            if call == "progress":
                run.progress.append(body["text"])
            else:
                run.state, run.finish = body["state"], body
            self.changed.notify_all()
        return 200, {}


class Server(ThreadingHTTPServer):
    """Serves a `State`."""

    daemon_threads = True

    def __init__(self, state: State) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.state = state

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        state, path = self.server.state, self._begin()
        if path is None:
            return
        if path.startswith("/snapshots/"):
            self._answer(200, state.snapshot)
        elif path == "/trust/har.json" and state.role is not None:
            self._answer(200, state.role)
        else:
            self._answer(404, json.dumps({"error": "UnknownError", "message": path, "hint": ""}).encode())

    def do_POST(self) -> None:
        path = self._begin()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if path is None:
            return
        if path == "/runs/claim":
            claimed = self.server.state.claim()
            self._answer(200 if claimed else 204, json.dumps(claimed).encode() if claimed else b"")
            return
        _, _, run, call = path.split("/")
        status, answer = self.server.state.tell(run, call, body)
        self._answer(status, json.dumps(answer).encode())

    def _begin(self) -> str | None:
        state, path = self.server.state, self.path.removeprefix("/api/v1")
        state.requests.append((self.command, path, self.headers.get("Authorization", "")))
        if state.down:
            self._answer(503, b"busy")
            return None
        if state.torn:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b'9\r\n{"run')
            return None
        return path

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        return None
