"""Manifests, index and config of a release."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outrider_protocol import canonical, limits, manifest
from outrider_protocol.errors import MalformedError, ProtocolError
from outrider_protocol.statistics import ReferenceStatistics
from tests.protocol import samples


@pytest.mark.parametrize(
    "document", [samples.MANIFEST, samples.INDEX, samples.CONFIG, samples.STATISTICS], ids=lambda d: type(d).__name__
)
def test_round_trip(document: manifest.Manifest | manifest.Index | manifest.Config | ReferenceStatistics) -> None:
    """PRO-MAN-1: decode(encode(d)) == d."""
    assert type(document).decode(document.encode()) == document


@pytest.mark.parametrize("title", ["", "../x", "a/b", ".hidden", "a b", "x\0", "é", "a" * 65, "/etc/passwd", ".."])
def test_titles_are_plain(title: str) -> None:
    """PRO-MAN-2: nothing but a plain file name can be unpacked."""
    with pytest.raises(MalformedError):
        manifest.safe_title(title)


@pytest.mark.parametrize("titles", [("a.bin", "a.bin"), ("config.json",), ("manifest.json",)])
def test_titles_are_unique(titles: tuple[str, ...]) -> None:
    """PRO-MAN-2: two files of one name, or one that shadows the manifest, are refused."""
    layers = tuple(manifest.device_layer(manifest.Role.LABELS, title, b"x") for title in titles)
    written = manifest.Manifest(samples.MANIFEST.config, layers, {}).encode()
    with pytest.raises(MalformedError):
        manifest.Manifest.decode(written)


@given(st.integers(0, 3 * limits.CHUNK_BYTES))
def test_chunks_cover_the_layer(size: int) -> None:
    """PRO-MAN-3: one digest for every chunk, at least one."""
    layer = manifest.device_layer(manifest.Role.MODEL, "m", bytes(size))
    assert len(layer.chunks) == max(1, -(-size // limits.CHUNK_BYTES))


def test_missing_chunk_is_refused() -> None:
    """PRO-MAN-3: a list that does not fit the size is refused."""
    value = canonical.decode(samples.MANIFEST.encode(), limits.MANIFEST_BYTES)
    annotations = value["layers"][0]["annotations"]
    annotations[manifest.CHUNKS] = annotations[manifest.CHUNKS].split(",")[0]
    with pytest.raises(MalformedError):
        manifest.Manifest.decode(canonical.encode(value))


def short_chunk(value: dict[str, Any]) -> None:
    annotations = value["layers"][0]["annotations"]
    annotations[manifest.CHUNKS] = ",".join("ab" for _ in annotations[manifest.CHUNKS].split(","))


def many_layers(value: dict[str, Any]) -> None:
    plain = {name: value["layers"][0][name] for name in ("mediaType", "digest", "size")}
    value["layers"] = [plain] * (limits.LAYERS + 1)


def large_layer(value: dict[str, Any]) -> None:
    value["layers"] = [{"mediaType": "x", "digest": samples.DIGEST, "size": limits.LAYER_BYTES + 1}]


def large_config(value: dict[str, Any]) -> None:
    value["config"]["size"] = limits.CONFIG_BYTES + 1


def no_counter(value: dict[str, Any]) -> None:
    value["annotations"][manifest.COUNTER] = "0"


BEYOND: list[tuple[Any, Callable[[dict[str, Any]], None]]] = [
    (samples.MANIFEST, short_chunk),
    (samples.MANIFEST, many_layers),
    (samples.MANIFEST, large_layer),
    (samples.MANIFEST, large_config),
    (samples.INDEX, no_counter),
]


@pytest.mark.parametrize(("document", "change"), BEYOND, ids=[change.__name__ for _, change in BEYOND])
def test_documents_beyond_their_limits(document: Any, change: Callable[[dict[str, Any]], None]) -> None:
    """PRO-MAN-3, PRO-MAN-4: what a pipeline signed by mistake is refused when read, before anything is fetched."""
    value = canonical.decode(document.encode(), limits.MANIFEST_BYTES)
    change(value)
    with pytest.raises(ProtocolError):
        type(document).decode(canonical.encode(value))


@pytest.mark.parametrize("document", [samples.MANIFEST, samples.INDEX, samples.CONFIG, samples.STATISTICS])
@given(data=st.data())
def test_damage_is_named(document: manifest.Manifest, data: st.DataObject) -> None:
    """PRO-JSON-6: changed bytes are read or refused with a `ProtocolError`."""
    damaged = bytearray(document.encode())
    damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    samples.read_or_refuse(type(document).decode, bytes(damaged))
