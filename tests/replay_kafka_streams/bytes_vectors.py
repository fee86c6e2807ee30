"""Vectors of bytes: serdes, keys of stores, the format between tables, partitions, hashes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from confluent_kafka import murmur2

from streamlet import serdes
from streamlet.records import Window, Windowed
from streamlet.state import StateMemory, Stores, TaskState, ValueAndTimestamp
from tests.replay_kafka_streams import api
from tests.replay_kafka_streams.verdict import DifferentError, OutOfScopeError


def replay(vector: dict[str, Any]) -> None:
    """Compare one vector.

    Raises:
        OutOfScopeError: If streamlet has nothing that makes such bytes.
        DifferentError: If it makes others.
    """
    kind, given, expected = vector["kind"], vector["input"], vector["output"]
    maker = _KINDS.get(kind)
    if maker is None:
        raise OutOfScopeError(_REFUSED.get(kind, f"unknown topology: vectors of kind {kind}"))
    actual = maker(given)
    actual = actual.hex() if isinstance(actual, bytes) else str(actual)
    if kind == "murmur2_producer":
        expected = str(int(expected) & 0x7FFFFFFF)
    if actual != expected:
        raise DifferentError(f"expected {expected}, got {actual}")


def _parts(given: str) -> tuple[str, dict[str, str]]:
    """Read ``text|name=value|...``; the text itself may be empty or missing."""
    text, _, rest = given.rpartition("|") if given.count("|") == 1 else given.partition("|")
    values = dict(item.split("=", 1) for item in rest.split("|") if item)
    return text, values


def _serde(serde: Any, read: Callable[[str], Any]) -> Callable[[str], bytes]:
    return lambda given: bytes(serde.serialize(read(given)))


def _partition(given: str) -> int:
    text, values = _parts(given)
    return int(murmur2(text.encode(), int(values["n"])))


def _partition_long(given: str) -> int:
    text, values = _parts(given)
    return int(murmur2(serdes.int64.serialize(int(text)), int(values["n"])))


def _murmur2(given: str) -> int:
    """Return the hash without its sign: librdkafka tells partitions only, without the sign as Java's producer."""
    return int(murmur2(given.encode(), 2**31 - 1))


@contextmanager
def _store(builder: Any) -> Iterator[tuple[Any, TaskState]]:
    state = TaskState.open([builder], directory=None, memory=StateMemory(2**20), timestamp=lambda: 0)
    try:
        yield state.store(builder.name), state
    finally:
        state.close()


def _changelog_keys(state: TaskState) -> list[bytes]:
    return [record.key for _, records in state.changes() for record in records]


def _timestamped(given: str) -> bytes:
    """Put a row into a table's store, and see how it lies behind it."""
    text, values = _parts(given)
    builder = Stores.timestamped_key_value("table", serdes.bytes_, serdes.bytes_, in_memory=True)
    with _store(builder) as (store, state):
        store.put(b"key", ValueAndTimestamp(text.encode(), int(values["ts"])))
        list(state.changes())
        state.commit({})
        (database,) = state._by_database()  # the tests of the layout may look behind the curtain
        stored = database.family("table").get(b"key")
    assert stored is not None
    return stored


def _window_key(given: str) -> bytes:
    text, values = _parts(given)
    start, sequence = int(values["start"]), int(values["seq"])
    length = timedelta(days=365)
    builder = Stores.window(
        "windows", serdes.bytes_, serdes.bytes_, retention=length, window_size=length, retain_duplicates=sequence > 0
    )
    with _store(builder) as (store, state):
        for _ in range(sequence + 1):
            store.put(text.encode(), b"value", start)
        keys = _changelog_keys(state)
    return next((key for key in keys if int.from_bytes(key[-4:], "big") == sequence), keys[-1])


def _session_key(given: str) -> bytes:
    text, values = _parts(given)
    builder = Stores.session("sessions", serdes.bytes_, serdes.bytes_, retention=timedelta(days=365))
    with _store(builder) as (store, state):
        store.put(Windowed(text.encode(), Window(int(values["start"]), int(values["end"]))), b"value")
        (key,) = _changelog_keys(state)
    return key


def _outer_join_key(given: str) -> bytes:
    text, values = _parts(given)
    builder = Stores.outer_join("unmatched", serdes.bytes_, serdes.bytes_, serdes.bytes_)
    with _store(builder) as (store, state):
        store.put(int(values["ts"]), values["left"] == "true", text.encode(), b"value")
        (key,) = _changelog_keys(state)
    return key


def _time_windowed(given: str) -> bytes:
    text, values = _parts(given)
    start, size = int(values["start"]), int(values["size"])
    serde = api.call(serdes, "time_windowed", serdes.string, timedelta(milliseconds=size))
    return bytes(serde.serialize(Windowed(text, Window(start, start + size))))


def _session_windowed(given: str) -> bytes:
    text, values = _parts(given)
    serde = api.call(serdes, "session_windowed", serdes.string)
    return bytes(serde.serialize(Windowed(text, Window(int(values["start"]), int(values["end"])))))


def _change(given: str) -> bytes:
    values = dict(item.split("=", 1) for item in given.split("|"))
    new, old = (None if values[side] == "null" else values[side] for side in ("new", "old"))
    return bytes(api.need("ChangeSerde")(serdes.string).serialize((new, old, True)))


def _combined_key(given: str) -> bytes:
    values = dict(item.split("=", 1) for item in given.split("|"))
    return bytes(api.need("combined_key")(values["fk"].encode(), values["pk"].encode()))


_KINDS: dict[str, Callable[[str], Any]] = {
    "timestamped_value": _timestamped,
    "long_serde": _serde(serdes.int64, int),
    "int_serde": _serde(serdes.int32, int),
    "double_serde": _serde(serdes.float64, float),
    "uuid_serde": _serde(serdes.uuid, uuid.UUID),
    "boolean_serde": _serde(serdes.boolean, lambda text: text == "true"),
    "default_partition": _partition,
    "default_partition_long_key": _partition_long,
    "murmur2_producer": _murmur2,
    "window_key": _window_key,
    "session_key": _session_key,
    "timewindowed_serde_key": _time_windowed,
    "sessionwindowed_serde_key": _session_windowed,
    "outer_join_store_key": _outer_join_key,
    "change": _change,
    "fk_combined_key": _combined_key,
    "murmur3_128": lambda given: api.need("murmur3_128")(given.encode()),
    "murmur3_32": lambda given: api.need("murmur3_32")(given.encode()),
}

_REFUSED = {
    "checkpoint_file": "refused by name: no checkpoint files, positions lie in the stores (KIP-1035)",
}
