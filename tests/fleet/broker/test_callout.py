"""The callout on a real nats-server: who gets in, and what they reach."""

import time
from collections.abc import Callable
from typing import Any

from outrider_protocol import topics


def test_device_reaches_its_own_topics(house: Any, client: Callable[..., Any], server: Any) -> None:
    """BRK-1: a device publishes upwards, reads its own downward topics, blobs and trust."""
    device = client("dev-1")
    began = time.perf_counter()
    assert device.connect()
    print(f"connect with callout: {(time.perf_counter() - began) * 1000:.1f} ms")
    assert device.subscribe(topics.all_down("dev-1"))
    server.link.publish(topics.ack("dev-1"), b"{}").wait(5)
    assert device.wait_for(topics.ack("dev-1")) == b"{}"
