"""What type checkers say about suppliers and stores of one's own; lines marked ``# E`` must be errors."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import assert_type

from streamlet import (
    JoinWindows,
    KeyValueStore,
    KStream,
    KTable,
    Materialized,
    StoreBuilder,
    Stores,
    StreamsBuilder,
    Topic,
    serdes,
)


class Own:
    def __init__(self, name: str, directory: Path | None) -> None:
        self.rows: dict[bytes, bytes] = {}

    def get(self, key: bytes, /) -> bytes | None:
        return self.rows.get(key)

    def put(self, key: bytes, value: bytes | None, /) -> None:
        pass

    def range(self, start: bytes | None, end: bytes | None, /) -> Iterator[tuple[bytes, bytes]]:
        return iter(sorted(self.rows.items()))

    def approximate_num_entries(self) -> int:
        return len(self.rows)

    def close(self) -> None:
        pass


class NoStore:
    def __init__(self, name: str, directory: Path | None) -> None:
        pass


minute = timedelta(minutes=1)
builder = StreamsBuilder()
words = builder.stream(Topic("words", serdes.string, serdes.string))
sizes = builder.stream(Topic("sizes", serdes.string, serdes.int64))

assert_type(Stores.key_value("s", serdes.string, serdes.int64).over(Own), StoreBuilder[KeyValueStore[str, int]])
counted = words.group_by_key().count(store=Materialized.as_(Stores.in_memory_key_value_store("c")))
assert_type(counted, KTable[str, int])
summed = sizes.group_by_key().aggregate(
    lambda: 0.0,
    lambda _, size, total: total + size,
    store=Materialized.as_(Stores.persistent_key_value_store("t").over(Own), value_serde=serdes.float64),
)
assert_type(summed, KTable[str, float])
side = Stores.in_memory_window_store("w", retention=minute, window_size=2 * minute, retain_duplicates=True)
windows = JoinWindows.of_time_difference(minute, grace=timedelta(0))
assert_type(words.join(sizes, lambda word, size: word * size, windows, this_store=side), KStream[str, str])

Stores.persistent_key_value_store("s").over(NoStore)  # E: it has none of the methods
words.join(sizes, lambda word, size: size, windows, this_store=Stores.in_memory_key_value_store("k"))  # E: no windows
Materialized.as_("name")  # E: a name is no supplier
