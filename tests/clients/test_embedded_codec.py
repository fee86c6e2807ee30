"""The stored form of a batch, the partitioner, and the address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from streamlet.clients import supplier_for
from streamlet.clients.embedded import address, batch
from streamlet.clients.embedded.partitioner import DEFAULT, partitioner
from streamlet.errors import ConfigError, StreamsError

VECTORS = Path(__file__).parents[3] / "shared" / "kafka_streams" / "bytes.json"

headers = st.none() | st.lists(
    st.tuples(st.text(max_size=4), st.none() | st.binary(max_size=4)), min_size=1, max_size=3
)
rows = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=20),
        st.none() | st.binary(max_size=20),
        st.integers(-(2**63), 2**63 - 1),
        headers,
    ),
    max_size=20,
)


def columns(found: batch.Records) -> Any:
    none = [None] * len(found)
    return [list(c) for c in (found.offsets, found.keys, found.values, found.timestamps, found.headers or none)]


@given(rows, st.integers(0, 2**40), st.booleans())
def test_a_batch_comes_back_as_it_went(given_rows: Any, base: int, sparse: bool) -> None:
    keys, values, timestamps, all_headers = ([row[n] for row in given_rows] for n in range(4))
    count = len(given_rows)
    offsets = [base + 3 * n for n in range(count)] if sparse else range(base, base + count)
    records = batch.Records(offsets, keys, values, timestamps, all_headers if any(all_headers) else None)
    assert columns(batch.decode(batch.encode(records), base, "t[0]")) == columns(records)


@given(rows.filter(bool), st.data())
def test_a_damaged_blob_is_told_and_nothing_else_happens(given_rows: Any, data: st.DataObject) -> None:
    keys, values, timestamps, all_headers = ([row[n] for row in given_rows] for n in range(4))
    records = batch.Records(range(len(keys)), keys, values, timestamps, all_headers if any(all_headers) else None)
    blob = bytearray(batch.encode(records))
    for _ in range(data.draw(st.integers(1, 3))):
        blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(blob)))
    for damaged in (bytes(blob), bytes(blob[:cut])):
        try:
            batch.decode(damaged, 0, "t[0] offset 0")
        except StreamsError as error:
            assert "t[0] offset 0" in str(error)  # noqa: PT017 - a change within a value goes unnoticed, rightly


def test_a_newer_batch_format_asks_for_a_newer_streamlet() -> None:
    blob = b"\x09" + batch.encode(batch.NO_RECORDS)[1:]
    with pytest.raises(StreamsError, match="newer streamlet"):
        batch.decode(blob, 0, "t[0]")


@pytest.mark.skipif(not VECTORS.exists(), reason=f"the recordings are not here: {VECTORS}")
def test_the_partitioner_is_javas() -> None:
    choose, spread = partitioner(DEFAULT)
    assert choose is not None
    assert spread
    vectors = [v for v in json.loads(VECTORS.read_text())["vectors"] if v["kind"].startswith("default_partition")]
    assert len(vectors) >= 40
    for vector in vectors:
        key, _, count = vector["input"].rpartition("|n=")
        raw = key.encode() if vector["kind"] == "default_partition" else int(key).to_bytes(8, "big", signed=True)
        assert choose(raw, int(count)) == int(vector["output"]), vector


def test_an_unknown_partitioner_is_refused() -> None:
    with pytest.raises(ConfigError, match="murmur2_random"):
        partitioner("murmur3")


def test_addresses(tmp_path: Path) -> None:
    assert address.parse("embedded:").path is None
    assert address.parse("embedded:mem:a?partitions=3").partitions == 3
    assert address.parse("embedded:mem:a").name == "a"
    parsed = address.parse(f"embedded:{tmp_path}/x.db?synchronous=full&cache.bytes=0")
    assert (parsed.path, parsed.synchronous, parsed.cache_bytes) == (tmp_path / "x.db", "full", 0)


@pytest.mark.parametrize(
    "bad",
    ["", "  ", "embedded:x?synchronous=maybe", "embedded:x?partitions=0", "embedded:x?colour=red", "embedded:x?y"],
)
def test_a_bad_address_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match=r"bootstrap\.servers"):
        supplier_for(bad)
