"""A fleet's trust in a directory, and documents to sign."""

import datetime as dt
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from outrider_fleet.signing.offline import Offline
from outrider_protocol import signing
from outrider_protocol.order import Audience, Order


@dataclass
class Fleet:
    """Home, offline keys, and one delegated pipeline for the model `har`."""

    home: Path
    offline: Offline
    pipeline: Path

    def role(
        self,
        *releases: tuple[str, int],
        current: bytes | None = None,
        key: Path | None = None,
        prefix: str = "har",
        days: float = 365,
        content: str = "manifest",
    ) -> bytes:
        """Metadata of the pipeline's role that lists these (version, counter), on top of `current`."""
        targets = [
            signing.artifact_target(f"{prefix}/{version}/x86-64", f"{content} {version}".encode(), counter)
            for version, counter in releases
        ]
        expires = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=days)
        return signing.add_targets(current, targets, expires, [signing.load_private(key or self.pipeline)])


def order(device: str = "dev-1", seq: int = 1, **changes: Any) -> Order:
    """An order that the signer of such a fleet signs."""
    now_ms = int(time.time() * 1000)
    made = Order(
        aud=Audience(device, "ef" * 32),
        fleet="test",
        epoch=1,
        seq=seq,
        iat_ms=now_ms,
        exp_ms=now_ms + 86_400_000,
        model="har",
        release="1.0",
        counter=1,
        profile="x86-64",
        manifest="sha256:" + "ab" * 32,
        manifest_bytes=100,
    )
    return replace(made, **changes)
