"""The supervisor's end for update tests: feeds what is published, answers `proceed`, records what is said."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outrider_agent.control import Channel, Message
from outrider_agent.durable import Durable
from outrider_agent.errors import ControlError
from outrider_agent.paths import Paths
from outrider_agent.update import identity, trust_file
from outrider_agent.update.process import Update
from outrider_protocol import documents, topics, trust
from tests.agent.supervisor.house import FLEET, PROFILE, Artifact, Trust
from tests.agent.worker.kit import Spec, write_artifact

DEVICE = "dev-1"
KEY = hashlib.sha256(b"key").hexdigest()


@dataclass
class Supply:
    """What the broker holds; `silent` topics are never answered, `asked` counts subscriptions.

    `current` is the digest that the supervisor says runs when it accepts; without `proceeds` it never says so.
    """

    messages: dict[str, bytes] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    said: list[Message] = field(default_factory=list)
    current: str | None = None
    proceeds: bool = True

    def serve(self, channel: Channel) -> None:
        """Until the other side has gone; what it said last is still read."""
        while (message := channel.receive()) is not None:
            self.said.append(message)
            with suppress(ControlError):
                self._answer(channel, message)

    def _answer(self, channel: Channel, message: Message) -> None:
        if message.op == "accepted" and self.proceeds:
            channel.send("proceed", {"current": self.current})
        for topic in message.fields.get("topics", []) if message.op == "subscribe" else ():
            self.asked.append(topic)
            if topic in self.messages and topic not in self.silent:
                channel.send("message", {"topic": topic}, self.messages[topic])


class Given:
    """A source over what the broker would hold: topic → payload."""

    def __init__(self, messages: dict[str, bytes]) -> None:
        self.messages, self.asked = messages, list[str]()

    def document(self, name: str, limit_bytes: int) -> bytes | None:
        self.asked.append(name)
        return self.messages.get(documents.topic_of(name))

    def chunks(self, hex_digest: str, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        for number in numbers:
            yield number, self.messages[topics.blob(hex_digest, number)]


class Device:
    """One enrolled device without a supervisor."""

    def __init__(self, directory: Path) -> None:
        self.paths, self.directory = Paths.under(directory / "home"), directory
        self.trust, self.supply = Trust(), Supply()
        self.floors = trust.Floors()
        self.disk = Durable()
        self.paths.identity.mkdir(parents=True)
        found = trust.Identity(DEVICE, KEY, FLEET, PROFILE)
        (self.paths.identity / identity.FILE).write_bytes(identity.encode(found))
        trust_file.begin(self.paths.trust, self.trust.roots[1], self.disk)

    def artifact(self, version: str, counter: int = 1, **spec: Any) -> Artifact:
        """Write, list and publish one."""
        directory = self.directory / f"artifact-{version}"
        write_artifact(directory, Spec(version=version, **spec))
        artifact = Artifact(directory, version, counter)
        self.trust.release(artifact.path, artifact.encoded, counter)
        self.supply.messages |= artifact.chunks()
        self.publish()
        return artifact

    def publish(self) -> None:
        """A new version of the trust bundle."""
        self.supply.messages |= self.trust.messages()

    def update(self, envelope: bytes, **fields: Any) -> Message:
        """Run the update on an envelope; its last word (`staged` or `failed`). `fields` are more of `begin`."""
        ours, theirs = socket.socketpair()
        feeder, channel = Channel(ours), Channel(theirs)
        self.supply.said = []
        thread = threading.Thread(target=self.supply.serve, args=(feeder,))
        thread.start()
        feeder.send("begin", {"floors": vars(self.floors), **fields}, envelope)
        mask = os.umask(0o077)
        try:
            Update(self.paths, channel, self.disk).run()
        finally:
            os.umask(mask)
            channel.close()
            thread.join(10)
            feeder.close()
        return next(m for m in reversed(self.supply.said) if m.op in {"staged", "failed"})

    def progress(self) -> list[str]:
        return [m.fields["state"] for m in self.supply.said if m.op == "progress"]

    def accepted(self) -> Message | None:
        return next((m for m in self.supply.said if m.op == "accepted"), None)
