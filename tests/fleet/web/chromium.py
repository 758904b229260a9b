"""A Chromium without a window, spoken to over a pipe (DevTools protocol): opens pages and says what it saw.

Messages are JSON, each ended by a zero byte; Chromium reads from its descriptor 3 and writes to 4.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def find() -> str | None:
    """The browser's program, if this machine has one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Chromium:
    """One page of one browser; `events` are all messages that answered nothing."""

    def __init__(self, write: int, read: int) -> None:
        self._write, self._read = write, read
        self._rest = b""
        self._calls = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []

    def begin(self) -> None:
        """Open the one page, and listen to it."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send one command and return its result."""
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(20)
            if answer.get("id") == self._calls:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self.events.append(answer)

    def _next(self, timeout_s: float) -> dict[str, Any]:
        until = time.monotonic() + timeout_s
        while b"\0" not in self._rest:
            assert select.select([self._read], [], [], max(0.0, until - time.monotonic()))[0], "Chromium is silent"
            self._rest += os.read(self._read, 1 << 16)
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def size(self, width: int, height: int) -> None:
        """Be a window of this size."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def prefer(self, scheme: str) -> None:
        """Prefer `light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, url: str) -> None:
        """Go there, and wait until it is loaded."""
        arrived = self.call("Page.navigate", url=url)
        assert not arrived.get("errorText"), f"{url}: {arrived['errorText']}"
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, script: str) -> Any:
        """What an expression is worth on the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return result["result"].get("value")

    def wait(self, script: str, timeout_s: float = 20) -> None:
        """Wait until an expression is true; the page is asked again after each frame that it draws."""
        drawn = f"new Promise(done => requestAnimationFrame(() => setTimeout(() => done(Boolean({script})), 30)))"
        until = time.monotonic() + timeout_s
        while not self.call("Runtime.evaluate", expression=drawn, awaitPromise=True)["result"].get("value"):
            assert time.monotonic() < until, f"never true: {script}"

    def picture(self, path: Path) -> None:
        """The whole page as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """Script errors and refusals by the content security policy, as text."""
        self.value("1")
        kinds = {"Runtime.exceptionThrown", "Log.entryAdded"}
        return [json.dumps(event["params"]) for event in self.events if event.get("method") in kinds]

    def addresses(self) -> list[str]:
        """Everything that the page asked for."""
        self.value("1")
        asked = (event for event in self.events if event.get("method") == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in asked]


def _pipe() -> tuple[int, int]:
    """A pipe whose ends lie clear of the descriptors 3 and 4."""
    low = os.pipe()
    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in low)
    for end in low:
        os.close(end)
    return high[0], high[1]


@contextmanager
def launched(program: str, profile: Path) -> Iterator[Chromium]:
    """Start it with an empty profile, and end it."""
    to_browser, from_browser = _pipe(), _pipe()

    def inherit() -> None:
        os.dup2(to_browser[0], 3)
        os.dup2(from_browser[1], 4)

    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
        "--no-first-run",
    ]
    process = subprocess.Popen(
        [program, *options, "--remote-debugging-pipe", f"--user-data-dir={profile}"],
        preexec_fn=inherit,  # noqa: PLW1509 - two descriptors at fixed numbers, before any thread
        close_fds=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        browser = Chromium(to_browser[1], from_browser[0])
        browser.begin()
        yield browser
    finally:
        process.kill()
        process.wait()
        for descriptor in (*to_browser, *from_browser):
            os.close(descriptor)
