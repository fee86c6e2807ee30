"""Stores of a task over time: formats, kinds, budgets, builders."""

from __future__ import annotations

import logging
import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pytest

from streamlet import serdes
from streamlet.config import StreamsConfig
from streamlet.errors import StateMismatchError, StateStoreError, TopologyError
from streamlet.serdes import FunctionSerde
from streamlet.state import ChangelogRecord, StateMemory, StoreBuilder, Stores, TaskState, ValueAndTimestamp
from streamlet.state.metadata import dump_position, unfinished_key
from streamlet.state.rocksdb import BATCH, RocksDatabase
from streamlet.state.size_sample import SizeSample
from tests.state.support import Harness, position, recorded

MEMORY = StateMemory(32 << 20)
PLAIN = Stores.key_value("s", serdes.string, serdes.int64)
TIMESTAMPED = Stores.timestamped_key_value("s", serdes.string, serdes.int64)


def opened(directory: Path | None, *builders: StoreBuilder[Any]) -> TaskState:
    return TaskState.open(builders, directory=directory, memory=MEMORY, timestamp=lambda: 7)


def test_bytes_of_timestamped_values_are_kafka_streams(tmp_path: Path) -> None:
    vectors = [v for v in recorded("bytes.json")["vectors"] if v["kind"] == "timestamped_value"]
    assert len(vectors) > 10
    state = opened(tmp_path, Stores.timestamped_key_value("s", serdes.string, serdes.string))
    for number, vector in enumerate(vectors):
        text, timestamp = vector["input"].split("|ts=")
        state.store("s").put(str(number), ValueAndTimestamp(text, int(timestamp)))
    ((_, records),) = state.changes()
    state.commit({})
    for number, (vector, record) in enumerate(zip(vectors, records, strict=True)):
        text, timestamp = vector["input"].split("|ts=")
        assert state._backends["s"].get(str(number).encode()) == bytes.fromhex(vector["output"])
        assert record == ChangelogRecord(str(number).encode(), text.encode(), int(timestamp))
    state.close()


def test_in_memory_stores_live_beside_persistent_ones(tmp_path: Path) -> None:
    transient = Stores.key_value("t", serdes.string, serdes.int64, in_memory=True)
    assert not transient.persistent
    harness = Harness([PLAIN, transient], tmp_path)
    for name in ("s", "t"):
        harness.store(name).put("a", 1)
    harness.commit()
    harness.state.close()
    harness.state = harness.opened()
    assert harness.state.position("s") == position(1)
    assert harness.state.position("t") is None
    assert harness.store("t").get("a") is None
    harness.restore()
    assert harness.store("t").get("a") == 1
    harness.close()


def test_a_store_that_became_timestamped_is_rebuilt_from_its_changelog(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    harness = Harness([PLAIN], tmp_path)
    harness.store().put("a", 1)
    harness.commit()
    harness.close()
    harness.builders = [TIMESTAMPED]
    with caplog.at_level(logging.WARNING):
        harness.state = harness.opened()
    assert "rebuilt from its changelog as a timestamped-key-value store" in caplog.text
    assert harness.state.position("s") is None
    assert list(harness.store().all()) == []
    harness.restore()
    assert harness.store().get("a") == (1, 0)
    harness.crash()
    assert harness.state.position("s") == position(1)
    harness.close()


def test_a_changed_kind_without_a_changelog_is_refused(tmp_path: Path) -> None:
    opened(tmp_path, Stores.key_value("s", serdes.string, serdes.int64, logging=False)).close()
    with pytest.raises(StateMismatchError, match=r"'s' in .* is a key-value store in format 1.*delete the directory"):
        opened(tmp_path, TIMESTAMPED)
    opened(tmp_path, PLAIN).close()  # the failed attempt left neither lock nor change


def rewrite_metadata(directory: Path, key: bytes, **fields: object) -> None:
    database = RocksDatabase(directory / "rocksdb", ["s"], MEMORY.rocksdb)
    there = orjson.loads(database.metadata(key) or b"{}")
    database.write([], {key: orjson.dumps({**there, **fields})})
    database.close()


def test_another_format_is_rebuilt_or_refused(tmp_path: Path) -> None:
    harness = Harness([PLAIN], tmp_path)
    harness.store().put("a", 1)
    harness.commit()
    harness.close()
    rewrite_metadata(tmp_path, b"store:s", format=99)
    harness.crash()
    assert harness.store().get("a") == 1
    harness.close()
    rewrite_metadata(tmp_path, b"store:s", changelog="something else", format=99)
    with pytest.raises(
        StateMismatchError, match=r"in format 99, but the topology declares .* give the store another name"
    ):
        harness.opened()


def test_a_position_of_another_version_means_restoring_anew(tmp_path: Path) -> None:
    harness = Harness([PLAIN], tmp_path)
    harness.store().put("a", 1)
    harness.commit()
    harness.close()
    rewrite_metadata(tmp_path, b"position:s", version=99, anything="else")
    harness.state = harness.opened()
    assert harness.state.position("s") is None
    harness.close()


def test_a_failed_write_leaves_the_changes_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = opened(tmp_path, PLAIN)
    state.store("s").put("a", 1)

    def full(*_: object) -> None:
        raise StateStoreError("disk full")

    monkeypatch.setattr(RocksDatabase, "write", full)
    with pytest.raises(StateStoreError, match="disk full"):
        state.commit({"s": position(1)})
    assert state.dirty
    assert state.store("s").get("a") == 1
    monkeypatch.undo()
    state.close()


@pytest.mark.parametrize("written", [0, 1, 2])
def test_a_commit_that_breaks_off_between_batches_is_repaired_by_restoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """Some batches are on disk, the position is not: the log is taken in again from the old position."""
    harness = Harness([TIMESTAMPED], tmp_path)
    for number in range(100):
        harness.store().fast_put(str(number), 1, 1)
    harness.commit()
    for number in range(50, 12_000):
        harness.store().fast_put(str(number), None if number % 3 == 0 else 2, 2)
    for name, records in harness.state.changes():
        harness.logs[name].extend(records)
    database: Any = harness.state._databases["s"]
    batches: list[int] = []

    class BreaksOff:
        def __init__(self, db: Any) -> None:
            self.db = db

        def write(self, batch: Any) -> None:
            if len(batches) == written:
                raise RuntimeError("the process dies here")
            batches.append(len(batch))
            self.db.write(batch)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.db, name)

    monkeypatch.setattr(database, "_db", BreaksOff(database._db))
    with pytest.raises(StateStoreError, match="the process dies here"):
        harness.state.commit({"s": position(len(harness.logs["s"]))})
    monkeypatch.undo()
    expected = {str(number): (1, 1) for number in range(50)}
    expected |= {str(number): (2, 2) for number in range(50, 12_000) if number % 3}
    harness.state.close()
    harness.state = harness.opened()
    assert harness.state.position("s") == position(100)
    assert harness.state.unfinished("s") == (position(len(harness.logs["s"])) if written else None)
    assert len(batches) == written
    harness.restore()
    assert dict(harness.store().all()) == expected
    assert harness.state.unfinished("s") is None
    harness.close()


def test_the_mark_of_a_large_write_stays_until_a_restore_has_come_as_far(tmp_path: Path) -> None:
    harness = Harness([PLAIN], tmp_path)
    harness.store().put("a", 1)
    harness.commit()
    data = dump_position(position(30))
    harness.state._databases["s"].write([], {unfinished_key("s"): data})
    record = ChangelogRecord(b"a", serdes.int64.serialize(2), 0)
    many = [ChangelogRecord(b"%d" % number, serdes.int64.serialize(2), 0) for number in range(BATCH + 1)]
    for records, offset in (([record], 10), (many, 20)):
        harness.state.restore("s", records, position(offset))
        assert harness.state.unfinished("s") == position(30)
        assert harness.state.position("s") == position(offset)
    harness.state.restore("s", [record], position(30))
    assert harness.state.unfinished("s") is None
    harness.state._databases["s"].write([], {unfinished_key("s"): data})
    harness.state.restore("s", many, position(40))
    assert harness.state.unfinished("s") is None
    harness.state._databases["s"].write([], {unfinished_key("s"): data})
    harness.state.wipe("s")
    assert harness.state.unfinished("s") is None
    assert harness.state.position("s") is None
    harness.close()


def test_a_mark_that_cannot_be_read_means_restoring_anew(tmp_path: Path) -> None:
    harness = Harness([PLAIN], tmp_path)
    harness.store().put("a", 1)
    harness.commit()
    harness.close()
    rewrite_metadata(tmp_path, b"unfinished:s", version=99, anything="else")
    harness.state = harness.opened()
    assert harness.state.position("s") is None
    harness.close()


def test_clean_entries_are_bounded_and_hot_ones_stay() -> None:
    """Reading a million entries keeps two generations of them; one that is read again and again is never forgotten."""
    reads: list[bytes] = []

    def decode(data: bytes) -> str:
        reads.append(data)
        return data.decode()

    serde = FunctionSerde("counted", str.encode, decode, immutable=True)
    memory = StateMemory(1 << 20)
    state = TaskState.open(
        [Stores.key_value("s", serdes.int64, serde)], directory=None, memory=memory, timestamp=lambda: 0
    )
    records = [ChangelogRecord(serdes.int64.serialize(n), str(n).encode(), 0) for n in range(20_000)]
    state.restore("s", records, position(1))
    store, buffer = state.store("s"), state._buffers["s"]
    for number in range(1, 20_000):
        assert store.get(number) == str(number)
        assert store.get(0) == "0"
    assert reads.count(b"0") == 1
    assert len(buffer.recent) + len(buffer.old) < (1 << 20) / 4 / 256
    assert len(buffer.recent) + len(buffer.old) > 200
    for number in range(20_000):
        store.put(number, "changed")
    state.commit({})
    assert len(buffer.recent) + len(buffer.old) <= 20_000  # those of the last commit, forgotten as others come
    for number in range(2_000):
        store.get(number)
    state.close()
    assert memory.entries_bytes == 1 << 18


@pytest.mark.parametrize("immutable_values", [False, True], ids=["bytes", "objects"])
def test_what_is_kept_of_json_takes_the_memory_of_its_length(immutable_values: bool) -> None:
    """orjson's results take 4 KiB each until they are copied."""
    builder = Stores.key_value("s", serdes.json, serdes.json, immutable_values=immutable_values)
    state = opened(None, builder)
    store, count = state.store("s"), 2_000
    keys = [{"key": number} for number in range(count)]
    tracemalloc.start()
    for key in keys:
        store.put(key, key)
    put, _ = tracemalloc.get_traced_memory()
    records = list(state.changes())
    sealed, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(records[0][1]) == count
    assert put < 600 * count
    assert sealed < 1_200 * count
    assert put / 4 < state.buffered_bytes < put * 4
    state.close()


@pytest.mark.parametrize("heavy_every", [1, 2, 10])
def test_the_size_of_a_dictionary_is_estimated_from_a_few_entries(heavy_every: int) -> None:
    measured: list[int] = []

    def size_of(size: int) -> int:
        measured.append(size)
        return size

    entries: dict[int, int] = {}
    sample: SizeSample[int] = SizeSample(size_of)
    assert sample.mean(entries) == 0
    for number in range(30_000):
        entries[number] = 10_000 if (number * 7919) % 30_000 % heavy_every == 0 else 10
        if number % 300 == 0:
            mean = sample.mean(entries)
    mean = sample.mean(entries)
    true = sum(entries.values()) / len(entries)
    assert true / 3 < mean < true * 3
    assert len(measured) < 30_000 / 5


def test_changelog_configs() -> None:
    config = StreamsConfig.parse(
        {"application.id": "a", "bootstrap.servers": "x", "topic.segment.bytes": 5, "topic.retention.ms": 1}
    )
    builder = Stores.key_value("s", serdes.string, serdes.int64, changelog_config={"segment.bytes": "7"})
    assert builder.changelog_config(config) == {
        "cleanup.policy": "compact",
        "message.timestamp.type": "CreateTime",
        "segment.bytes": "7",
        "retention.ms": "1",
    }


def test_builders_are_values() -> None:
    assert Stores.key_value("s", serdes.string, serdes.int64) == PLAIN
    assert len({PLAIN, Stores.key_value("s", serdes.string, serdes.int64), TIMESTAMPED}) == 2
    with pytest.raises(TopologyError, match="store 'a b' is not a legal name"):
        Stores.key_value("a b", serdes.string, serdes.int64)
    with pytest.raises(TopologyError, match="value_serde of store 's' must be a Serde"):
        Stores.key_value("s", serdes.string, int)  # type: ignore[arg-type]  # that is the point
