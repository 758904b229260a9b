"""One order, from the raw envelope to a committed artifact, in the order of checks of the design.

size caps → trust refresh → director and epoch → signature → audience → time → sequence → target → profile and floor →
(the supervisor makes it durable) → manifest → chunks → whole digests → safe files → load test → commit.

1. Nothing is downloaded for an order that was not accepted, and nothing is loaded that was not verified whole.
2. Every refusal is a named error with a hint; whatever fails, what runs goes on running.
3. Metadata that does not fit together is fetched once more before it is called untrusted: the two retained messages
   may have been published between our two subscriptions, or more roots have been made than one run follows.
4. Where the bytes come from (`sources`) changes no check: an order that was carried here in a folder passes the same.
5. The time of a clock that stands before this agent was built is not believed: the last verified order's counts then.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final

from outrider_agent import sealed
from outrider_agent.clock import BUILD_MS
from outrider_agent.control import Channel, Message
from outrider_agent.durable import Durable
from outrider_agent.errors import AgentError, ControlError, DurableError
from outrider_agent.paths import Paths
from outrider_agent.supervisor.lock import in_turn
from outrider_agent.update import download, identity, stage, trust_file
from outrider_agent.update.broker_source import BrokerSource
from outrider_agent.update.bundle import Bundle
from outrider_agent.update.claims import claim, claimed_order
from outrider_agent.update.courier import Courier
from outrider_agent.update.errors import (
    AlreadyInstalledError,
    NoArtifactError,
    RemovalOrderedError,
    told,
)
from outrider_agent.update.folder_source import FolderSource
from outrider_agent.update.http_source import HttpSource
from outrider_agent.update.sources import EitherSource, Source
from outrider_agent.update.trust_store import Trusted, TrustStore
from outrider_protocol import ids, trust
from outrider_protocol.errors import ProtocolError, WrongTargetError
from outrider_protocol.manifest import Config, Manifest
from outrider_protocol.order import Order

BEGIN_S: Final = 10.0
PROCEED_S: Final = 600.0
AGAIN_S: Final = 2.0


@dataclass(frozen=True)
class Task:
    """What the supervisor asked for: the raw envelope and the floors.

    `folder` is where the bytes were carried to, "" for the broker; `server` the fleet server's address, "" for none;
    `encrypt` seals the layers with this device's key.
    """

    envelope: bytes
    floors: trust.Floors
    folder: str = ""
    server: str = ""
    encrypt: bool = False

    @classmethod
    def of(cls, message: Message) -> Task:
        """From the `begin` operation."""
        fields = message.fields
        return cls(
            message.blob or b"",
            trust.Floors(**fields["floors"]),
            str(fields.get("folder", "")),
            str(fields.get("server", "")),
            bool(fields.get("encrypt")),
        )

    def source(self, courier: Courier, model: str, ca: Path) -> Source:
        """Where its bytes come from."""
        if self.folder:
            return FolderSource(Path(self.folder))
        broker = BrokerSource(courier, model)
        return EitherSource(broker, HttpSource(self.server, ca)) if self.server else broker


class Update:
    """Takes one task to its end."""

    def __init__(self, paths: Paths, channel: Channel, disk: Durable) -> None:
        self._paths, self._channel, self._disk = paths, channel, disk
        self._courier = Courier(channel)
        self._store = TrustStore(paths.trust, disk)
        self._source: Source

    def run(self) -> None:
        """Answer `staged` or `failed`; raises `ControlError` when the supervisor has gone."""
        begin = self._courier.expect("begin", BEGIN_S)
        if begin is None:
            raise ControlError("no task came")
        with in_turn(self._paths.update_lock):
            trust_file.sweep(self._paths.trust)
            self._work(Task.of(begin))

    def _work(self, task: Task) -> None:
        claimed: dict[str, Any] | None = None
        try:
            order = claimed_order(task.envelope)
            claimed = claim(order)
            accepted, current = self._accept(task, order)
            self._channel.send("staged", {"parameters": self._stage(task, accepted, current)})
        except RemovalOrderedError:
            self._channel.send("removal", {"order": claimed})
        except ControlError:
            raise
        except (AgentError, ProtocolError) as error:
            self._channel.send("failed", {**told(error), "claimed": claimed})
        except OSError as error:
            self._channel.send("failed", {**told(DurableError(str(error))), "claimed": claimed})

    # ---------------------------------------------------------------- before acceptance

    def _accept(self, task: Task, claimed: Order) -> tuple[Order, str | None]:
        """The order, and the digest that runs and has succeeded when it was made durable."""
        device = identity.load(self._paths.identity)
        trusted = self._refresh(task, claimed)
        clock = trust.Clock(_clock_ms(), BUILD_MS, trusted.trusted_until_ms)
        order, floors, _ = trust.accept(task.envelope, trusted.director, task.floors, device, clock)
        if order.action == "remove":
            raise RemovalOrderedError(order)
        if trusted.target is None:
            raise trusted.refused or NoArtifactError(f"{order.target} is not listed")
        trust.check_artifact(order, trusted.target, device, trusted.floors.min_counter.get(order.model, 0))
        self._channel.send("accepted", {"order": order.view(), "floors": vars(floors)})
        proceed = self._courier.expect("proceed", PROCEED_S)
        if proceed is None:
            raise ControlError("the supervisor did not say `proceed`")
        return order, proceed.fields["current"]

    def _refresh(self, task: Task, claimed: Order) -> Trusted:
        try:
            trusted = self._fetch_trust(task, claimed)
            if trusted.target is not None or task.folder:
                return trusted
        except ProtocolError:
            pass  # rule 3: once more, and then it counts
        if not task.folder:  # whose files do not change under us
            self._courier.pause(AGAIN_S)
        return self._fetch_trust(task, claimed)

    def _fetch_trust(self, task: Task, claimed: Order) -> Trusted:
        self._source = task.source(self._courier, claimed.model, self._paths.identity / "ca.pem")
        return self._store.refresh(Bundle(self._source, claimed.model), claimed.target, reference_time(task.floors))

    # ---------------------------------------------------------------- after acceptance

    def _stage(self, task: Task, order: Order, current: str | None) -> dict[str, float]:
        if order.manifest == current:
            raise AlreadyInstalledError(f"{order.model} {order.release} runs already")
        final = self._paths.artifact(ids.hex_of(order.manifest))
        present = stage.is_complete(final, order.manifest)
        directory = final if present else self._paths.downloads / final.name
        self._progress("downloading")
        manifest, config = self._manifest(order, directory)
        parameters = trust.resolve_parameters(order.parameters, config.ranges())
        stage.check_space(directory, manifest)
        key = sealed.make_key(self._paths, self._disk) if _is_sealed(task, directory, present) else None
        for layer in manifest.device_layers():
            download.layer(self._source, layer, directory, self._disk, key)
        self._progress("verifying")
        stage.verify(directory, manifest, self._disk, key)
        self._disk.sync_tree(directory)
        self._progress("staged")
        self._progress("validating")
        measured = stage.load_test(directory, order.model)
        self._progress("validating", {name: measured[name] for name in ("latency_us", "load_ms") if name in measured})
        stage.commit(directory, final, self._disk)
        return parameters

    def _manifest(self, order: Order, directory: Path) -> tuple[Manifest, Config]:
        self._disk.make_directory(directory)
        stage.check_directory(directory)
        data = self._small(directory / stage.MANIFEST_FILE, order.manifest, order.manifest_bytes)
        manifest = Manifest.decode(data)
        stage.check_titles(manifest)
        config = Config.decode(self._small(directory / stage.CONFIG_FILE, manifest.config.digest, manifest.config.size))
        trust_config(order, config)
        return manifest, config

    def _small(self, path: Path, digest: str, size_bytes: int) -> bytes:
        if path.exists():
            data = stage.read_plain(path, size_bytes)
            if ids.digest_of(data) == digest:
                return data
        data = download.small_blob(self._source, digest, size_bytes)
        self._disk.write(path, data)
        return data

    def _progress(self, state: str, detail: dict[str, Any] | None = None) -> None:
        self._channel.send("progress", {"state": state, "detail": detail or {}})


def _is_sealed(task: Task, directory: Path, present: bool) -> bool:
    """What is committed already stays as it is; what is fetched now is as the configuration says."""
    return any(directory.glob(f"*{sealed.SUFFIX}")) if present else task.encrypt


def _clock_ms() -> int | None:
    """This machine's time; None where it stands before this agent was built."""
    now_ms = time.time_ns() // 1_000_000
    return now_ms if now_ms >= BUILD_MS else None


def reference_time(floors: trust.Floors) -> datetime:
    """The time that metadata must not have expired at; see rule 5."""
    now_ms = _clock_ms()
    return datetime.fromtimestamp((now_ms or max(BUILD_MS, floors.time_ms)) / 1000, timezone.utc)


def trust_config(order: Order, config: Config) -> None:
    """The artifact must be what the order and its target say that it is."""
    named = (config.model, config.version, config.counter, config.profile)
    if named != (order.model, order.release, order.counter, order.profile):
        raise WrongTargetError(f"the artifact says that it is {named}")
