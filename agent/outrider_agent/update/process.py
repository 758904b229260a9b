"""One order, from the raw envelope to a committed artifact, in the order of checks of the design.

size caps → trust refresh → director and epoch → signature → audience → time → sequence → target → profile and floor →
(the supervisor makes it durable) → manifest → chunks → whole digests → safe files → load test → commit.

1. Nothing is downloaded for an order that was not accepted, and nothing is loaded that was not verified whole.
2. Every refusal is a named error with a hint; whatever fails, what runs goes on running.
3. Metadata that does not fit together is fetched once more before it is called untrusted: the two retained messages
   may have been published between our two subscriptions.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from outrider_agent.clock import BUILD_MS
from outrider_agent.control import Channel, Message
from outrider_agent.durable import Durable
from outrider_agent.errors import AgentError, ControlError
from outrider_agent.paths import Paths
from outrider_agent.update import bundle, download, identity, stage
from outrider_agent.update.courier import Courier
from outrider_agent.update.errors import (
    AlreadyInstalledError,
    CannotRefreshError,
    NoArtifactError,
    RemovalOrderedError,
    UntrustedMetadataError,
    told,
)
from outrider_agent.update.trust_store import Trusted, TrustStore
from outrider_protocol import dsse, ids, limits, trust
from outrider_protocol.errors import ProtocolError, TooLargeError, WrongTargetError
from outrider_protocol.manifest import Config, Manifest
from outrider_protocol.order import Order

BEGIN_S: Final = 10.0
PROCEED_S: Final = 600.0
AGAIN_S: Final = 2.0


@dataclass(frozen=True)
class Task:
    """What the supervisor asked for: the raw envelope and the floors."""

    envelope: bytes
    floors: trust.Floors

    @classmethod
    def of(cls, message: Message) -> Task:
        """From the `begin` operation."""
        return cls(message.blob or b"", trust.Floors(**message.fields["floors"]))


class Update:
    """Takes one task to its end."""

    def __init__(self, paths: Paths, channel: Channel, disk: Durable) -> None:
        self._paths, self._channel, self._disk = paths, channel, disk
        self._courier = Courier(channel)
        self._identity = identity.load(paths.identity)
        root = (paths.identity / identity.ROOT).read_bytes()
        self._store = TrustStore(paths.trust, root, disk)

    def run(self) -> None:
        """Answer `staged` or `failed`; raises `ControlError` when the supervisor has gone."""
        begin = self._courier.expect("begin", BEGIN_S)
        if begin is None:
            raise ControlError("no task came")
        task = Task.of(begin)
        claimed: dict[str, Any] | None = None
        try:
            order = claimed_order(task.envelope)
            claimed = claim(order)
            accepted, current = self._accept(task, order)
            self._channel.send("staged", {"parameters": self._stage(accepted, current)})
        except RemovalOrderedError:
            self._channel.send("removal", {"order": claimed})
        except (AgentError, ProtocolError, OSError) as error:
            if isinstance(error, ControlError):
                raise
            self._channel.send("failed", {**told(error), "claimed": claimed})

    # ---------------------------------------------------------------- before acceptance

    def _accept(self, task: Task, claimed: Order) -> tuple[Order, str | None]:
        """The order, and the digest that runs and has succeeded when it was made durable."""
        trusted = self._refresh(claimed)
        order, floors, _ = trust.accept(
            task.envelope, trusted.director, task.floors, self._identity, self._clock(trusted)
        )
        if order.action == "remove":
            raise RemovalOrderedError(order)
        if trusted.target is None:
            raise NoArtifactError(f"{order.target} is not listed")
        trust.check_artifact(order, trusted.target, self._identity, trusted.floors.min_counter.get(order.model, 0))
        self._channel.send("accepted", {"order": order.view(), "floors": vars(floors)})
        proceed = self._courier.expect("proceed", PROCEED_S)
        if proceed is None:
            raise ControlError("the supervisor did not say `proceed`")
        return order, proceed.fields["current"]

    def _refresh(self, claimed: Order) -> Trusted:
        try:
            trusted = self._fetch_trust(claimed)
            if trusted.target is not None:
                return trusted
        except UntrustedMetadataError:
            pass  # rule 3: once more, and then it counts
        self._courier.pause(AGAIN_S)
        return self._fetch_trust(claimed)

    def _fetch_trust(self, claimed: Order) -> Trusted:
        try:
            offered = bundle.fetch(self._courier, claimed.model, self._store.root_version())
        except CannotRefreshError as error:
            try:
                return self._store.refresh(None, claimed.target)
            except (AgentError, ProtocolError):
                raise error from None
        return self._store.refresh(offered, claimed.target)

    def _clock(self, trusted: Trusted) -> trust.Clock:
        now_ms = time.time_ns() // 1_000_000
        return trust.Clock(now_ms if now_ms >= BUILD_MS else None, BUILD_MS, trusted.timestamp_expires_ms)

    # ---------------------------------------------------------------- after acceptance

    def _stage(self, order: Order, current: str | None) -> dict[str, float]:
        if order.manifest == current:
            raise AlreadyInstalledError(f"{order.model} {order.release} runs already")
        final = self._paths.artifact(ids.hex_of(order.manifest))
        present = stage.is_complete(final, order.manifest)
        directory = final if present else self._paths.downloads / final.name
        self._progress("downloading")
        manifest, config = self._manifest(order, directory)
        parameters = trust.resolve_parameters(order.parameters, config.ranges())
        stage.check_space(directory, manifest)
        for layer in manifest.device_layers():
            download.layer(self._courier, layer, directory, self._disk)
        self._progress("verifying")
        stage.verify(directory, manifest)
        self._disk.sync_tree(directory)
        self._progress("staged")
        self._progress("validating")
        measured = stage.load_test(directory, order.model)
        self._progress("validating", {name: measured[name] for name in ("latency_us", "load_ms") if name in measured})
        stage.commit(directory, final, self._disk)
        return parameters

    def _manifest(self, order: Order, directory: Path) -> tuple[Manifest, Config]:
        self._disk.make_directory(directory)
        data = self._small(directory / stage.MANIFEST_FILE, order.manifest, order.manifest_bytes)
        manifest = Manifest.decode(data)
        config = Config.decode(self._small(directory / stage.CONFIG_FILE, manifest.config.digest, manifest.config.size))
        trust_config(order, config)
        return manifest, config

    def _small(self, path: Path, digest: str, size_bytes: int) -> bytes:
        if path.exists():
            data = path.read_bytes()
            if ids.digest_of(data) == digest:
                return data
        data = download.small_blob(self._courier, digest, size_bytes)
        self._disk.write(path, data)
        return data

    def _progress(self, state: str, detail: dict[str, Any] | None = None) -> None:
        self._channel.send("progress", {"state": state, "detail": detail or {}})


def trust_config(order: Order, config: Config) -> None:
    """The artifact must be what the order and its target say that it is."""
    named = (config.model, config.version, config.counter, config.profile)
    if named != (order.model, order.release, order.counter, order.profile):
        raise WrongTargetError(f"the artifact says that it is {named}")


def claimed_order(envelope: bytes) -> Order:
    """What an envelope says, before any of it is believed: it chooses which metadata to fetch, and names a refusal."""
    if len(envelope) > limits.ORDER_BYTES:
        raise TooLargeError("order", len(envelope), limits.ORDER_BYTES)
    return Order.decode(dsse.Envelope.decode(envelope, limits.ORDER_BYTES).payload)


def claim(order: Order) -> dict[str, Any]:
    """How a refused order is named in a report."""
    return {
        "epoch": order.epoch,
        "seq": order.seq,
        "model": order.model,
        "release": order.release,
        "digest": order.manifest,
    }
