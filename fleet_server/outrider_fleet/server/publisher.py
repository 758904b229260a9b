"""The way out to the broker, as the use cases see it."""

from pathlib import Path

from outrider_fleet.broker import chunks
from outrider_fleet.broker.link import BrokerLink


class LinkPublisher:
    """Publishes through the server's own connection."""

    def __init__(self, link: BrokerLink) -> None:
        self._link = link

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> object:
        """Send one message; what is retained is sent again after a reconnect."""
        return self._link.publish(topic, payload, retain=retain)

    def publish_blob(self, hex_digest: str, file: Path) -> None:
        """Send every chunk; returns when the broker has acknowledged them all. Raises `LinkError`."""
        chunks.publish_blob(self._link, hex_digest, file)

    def lost_blobs(self, sizes: dict[str, int]) -> set[str]:
        """Ask for the last chunk of each, all at once."""
        return chunks.lost_blobs(self._link, sizes)
