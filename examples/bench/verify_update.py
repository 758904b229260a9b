"""CPU time of one update's verification: `python -m examples.bench.verify_update`.

A fleet of ten model families is made, each with a pipeline of its own; one of them lists as many artifacts as a role
may (`limits.ROLE_TARGETS`), and its root has been rotated. Then the update process's own steps are timed with
`time.process_time`: the trust store's refresh, the order's acceptance, the check of the artifact. Fetching is left out
(the bytes are in memory), and so are the artifact and the imports; the durable commit is in.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gzip
import hashlib
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuf.api.metadata import DelegatedRole, Delegations, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from outrider_agent.durable import Durable
from outrider_agent.update import trust_file
from outrider_agent.update.bundle import Bundle
from outrider_agent.update.trust_store import TrustStore
from outrider_protocol import director, documents, ids, limits, signing, trust
from outrider_protocol.messages import TrustOnline
from outrider_protocol.order import Audience, Order

AIM_MS = 10.0
PROFILES = ("arm64", "jetson-orin-nano", "raspberry-pi-5", "x86-64")
FAMILIES = 10
MODEL = "model-0"
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
DEVICE = trust.Identity("dev-1", hashlib.sha256(b"key").hexdigest(), "bench", "x86-64")


@dataclass
class Fleet:
    """The signing side, in memory."""

    keys: dict[str, Any] = field(default_factory=dict)
    roots: list[bytes] = field(default_factory=list)
    version: int = 0

    def __post_init__(self) -> None:
        names = ("root", "root-2", "targets", "snapshot", "timestamp", "director")
        self.keys = {name: signing.generate() for name in names}
        self.keys |= {f"model-{n}": signing.generate() for n in range(FAMILIES)}
        self.files = {
            director.DIRECTOR_TARGET: director.Director("bench", 1, (self._public("director"),)).encode(),
            director.FLOORS_TARGET: director.Floors({f"model-{n}": n + 1 for n in range(FAMILIES)}).encode(),
        }
        releases = range(limits.ROLE_TARGETS // len(PROFILES))
        self.listed = [
            signing.artifact_target(ids.target_path(MODEL, f"1.{n}.0", profile), os.urandom(4000), n + 1)
            for n in releases
            for profile in PROFILES
        ]
        for _ in range(3):
            self.new_root()

    def _public(self, name: str) -> str:
        return signing.public_bytes(self.keys[name]).hex()

    def new_root(self) -> None:
        """Two of two root keys sign the next root."""
        root = Root(version=len(self.roots) + 1, expires=NOW + dt.timedelta(days=700), consistent_snapshot=False)
        for name in ("root", "targets", "snapshot", "timestamp"):
            root.add_key(signing.tuf_key(self.keys[name]), name)
        root.add_key(signing.tuf_key(self.keys["root-2"]), "root")
        root.roles["root"].threshold = 2
        self.roots.append(signing.sign_role(root, [self.keys["root"], self.keys["root-2"]]))

    def offer(self) -> Given:
        """Everything signed anew, with the next version."""
        self.version += 1
        until = NOW + dt.timedelta(days=7)
        role = signing.sign_role(
            Targets(self.version, expires=until, targets={t.path: t for t in self.listed}), [self.keys[MODEL]]
        )
        keys = {f"model-{n}": signing.tuf_key(self.keys[f"model-{n}"]) for n in range(FAMILIES)}
        delegated = {
            name: DelegatedRole(name, [key.keyid], 1, True, paths=[f"{name}/*/*"]) for name, key in keys.items()
        }
        top = Targets(
            self.version,
            expires=until,
            targets={name: TargetFile.from_data(name, data, ["sha256"]) for name, data in self.files.items()},
            delegations=Delegations({key.keyid: key for key in keys.values()}, delegated),
        )
        targets = signing.sign_role(top, [self.keys["targets"]])
        meta = {f"{name}.json": MetaFile.from_data(self.version, role, ["sha256"]) for name in keys}
        meta["targets.json"] = MetaFile.from_data(self.version, targets, ["sha256"])
        snapshot = signing.sign_role(Snapshot(self.version, expires=until, meta=meta), [self.keys["snapshot"]])
        pinned = MetaFile.from_data(self.version, snapshot, ["sha256"])
        timestamp = Timestamp(self.version, expires=until, snapshot_meta=pinned)
        online = TrustOnline(
            len(self.roots),
            signing.sign_role(timestamp, [self.keys["timestamp"]]).decode(),
            snapshot.decode(),
            targets.decode(),
            {name: data.decode() for name, data in self.files.items()},
        )
        roots = {documents.root(n): data for n, data in enumerate(self.roots, 1)}
        return Given({**roots, documents.ONLINE: online.encode(), documents.role(MODEL): role})

    def order(self) -> bytes:
        """The newest release for the device."""
        target, at_ms = self.listed[-1], int(NOW.timestamp() * 1000)
        counter = target.unrecognized_fields["custom"]["counter"]
        order = Order(
            Audience(DEVICE.device, DEVICE.key_sha256),
            "bench",
            1,
            7,
            at_ms,
            at_ms + 86_400_000,
            MODEL,
            target.path.split("/")[1],
            counter,
            DEVICE.profile,
            f"sha256:{target.hashes['sha256']}",
            target.length,
        )
        return signing.sign_order(order, [self.keys["director"]])


@dataclass(frozen=True)
class Given:
    """A source over documents in memory."""

    documents: dict[str, bytes]

    def document(self, name: str, limit_bytes: int) -> bytes | None:
        """See `outrider_agent.update.sources.Source`."""
        del limit_bytes
        return self.documents.get(name)

    def chunks(self, hex_digest: str, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """None."""
        del hex_digest, numbers
        return iter(())

    def gzipped(self) -> int:
        """The bytes of what a device fetches that has the root already, compressed."""
        return len(gzip.compress(self.documents[documents.ONLINE] + self.documents[documents.role(MODEL)], 9))


def verify_ms(directory: Path, given: Given, envelope: bytes) -> float:
    """CPU milliseconds from the offered bytes to an accepted order."""
    began_s = time.process_time()
    target = ids.target_path(MODEL, f"1.{limits.ROLE_TARGETS // len(PROFILES) - 1}.0", DEVICE.profile)
    trusted = TrustStore(directory, Durable()).refresh(Bundle(given, MODEL), target, NOW)
    clock = trust.Clock(int(NOW.timestamp() * 1000), 0, trusted.trusted_until_ms)
    order, _, _ = trust.accept(envelope, trusted.director, trust.Floors(), DEVICE, clock)
    assert trusted.target is not None
    trust.check_artifact(order, trusted.target, DEVICE, trusted.floors.min_counter[MODEL])
    return (time.process_time() - began_s) * 1e3


def measured(repeats: int) -> tuple[dict[str, list[float]], int]:
    """Milliseconds by case, and the gzipped bundle's bytes."""
    fleet = Fleet()
    envelope = fleet.order()
    cases: dict[str, list[float]] = {"first time, two new roots": [], "all metadata new": [], "nothing new": []}
    with tempfile.TemporaryDirectory(prefix="outrider-verify-") as name:
        given = fleet.offer()
        trust_file.begin(Path(name) / "warm", fleet.roots[0], Durable())
        verify_ms(Path(name) / "warm", given, envelope)  # imports inside functions
        for number in range(repeats):
            place = Path(name) / str(number)
            trust_file.begin(place, fleet.roots[0], Durable())
            cases["first time, two new roots"].append(verify_ms(place, given, envelope))
            given = fleet.offer()
            cases["all metadata new"].append(verify_ms(place, given, envelope))
            cases["nothing new"].append(verify_ms(place, given, envelope))
    return cases, given.gzipped()


def main() -> None:
    """Measure, print the table as Markdown."""
    parser = argparse.ArgumentParser(description="CPU time of one update's verification.")
    parser.add_argument("--repeats", type=int, default=50)
    cases, gzipped = measured(parser.parse_args().repeats)
    lines = ["| verification of one update | median | slowest |", "|---|---|---|"]
    lines += [f"| {name} | {statistics.median(ms):.1f} ms | {max(ms):.1f} ms |" for name, ms in cases.items()]
    lines += [f"| aim | ≤ {AIM_MS:.0f} ms | |", ""]
    lines.append(
        f"CPU time; {limits.ROLE_TARGETS} artifacts listed, {FAMILIES} model families. The bundle is {gzipped} bytes "
        f"gzipped (aim: at most {limits.BUNDLE_GZIP_BYTES})."
    )
    lines.append(
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs."
    )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
