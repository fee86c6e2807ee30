"""What type checkers say about the operators that the other files leave out; lines marked ``# E`` must be errors."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from streamlet import (
    FixedKeyProcessor,
    KeyValueStore,
    KStream,
    KTable,
    Processor,
    Record,
    StoreBuilder,
    Stores,
    StreamsBuilder,
    Topic,
    serdes,
)
from streamlet.state import SessionStore, TimestampedWindowStore, VersionedKeyValueStore, WindowStore

builder = StreamsBuilder()
words = builder.stream(Topic("words", serdes.string, serdes.string))
sizes = builder.table(Topic("sizes", serdes.string, serdes.int64))
hour = timedelta(hours=1)


def of_ints(key: int, value: int) -> bool:
    return key > value


def length(_: str, word: str) -> int:
    return len(word)


def starts_with_a(_: str, word: str) -> bool:
    return word.startswith("a")


def lengths(stream: KStream[str, str]) -> KStream[str, int]:
    return stream.map_values(len)


def ends(stream: KStream[str, str]) -> None:
    stream.to(Topic("ends", serdes.string, serdes.string))


def of_int_streams(stream: KStream[int, int]) -> KStream[int, int]:
    return stream


class Sizes(FixedKeyProcessor[str, str, int]):
    def process(self, record: Record[str, str]) -> None:
        self.context.forward(record.with_value(len(record.value)))


class OfInts(Processor[int, int, int, int]):
    def process(self, record: Record[int, int]) -> None:
        self.context.forward(record)


assert_type(words.filter_not(lambda key, word: key == word), KStream[str, str])
assert_type(words.peek(lambda key, word: print(key.upper(), word.upper())), KStream[str, str])
assert_type(words.select_key(length), KStream[int, str])
assert_type(words.select_key(length).repartition(key_serde=serdes.int64), KStream[int, str])
assert_type(words.to_table(store="words"), KTable[str, str])
assert_type(words.process_values(Sizes), KStream[str, int])
assert_type(words.split(name="s").branch(lambda _, word: word == "a").no_default_branch(), dict[str, KStream[str, str]])
assert_type(words.split().branch(starts_with_a).branch(starts_with_a).default_branch(), dict[str, KStream[str, str]])
assert_type(words.split().branch(starts_with_a, then=lengths).no_default_branch(), dict[str, KStream[str, int]])
assert_type(
    words.split().branch(starts_with_a, then=lengths).default_branch(), dict[str, KStream[str, int] | KStream[str, str]]
)
assert_type(words.split().branch(starts_with_a, then=ends).default_branch(), dict[str, KStream[str, str]])
assert_type(words.split().branch(starts_with_a).default_branch(then=ends), dict[str, KStream[str, str]])
assert_type(
    words.split().branch(starts_with_a).default_branch(then=lengths), dict[str, KStream[str, str] | KStream[str, int]]
)
assert_type(
    words.split().branch(starts_with_a, then=lambda a: a.map_values(len)).no_default_branch(),
    dict[str, KStream[str, int]],
)
assert_type(sizes.filter_not(lambda _, size: size > 3), KTable[str, int])
words.foreach(lambda key, word: print(key.upper(), word.upper()))

assert_type(Stores.window("w", serdes.string, serdes.int64, retention=hour, window_size=hour),
            StoreBuilder[WindowStore[str, int]])  # fmt: skip
assert_type(Stores.timestamped_window("w", serdes.string, serdes.int64, retention=hour, window_size=hour),
            StoreBuilder[TimestampedWindowStore[str, int]])  # fmt: skip
assert_type(Stores.session("s", serdes.string, serdes.int64, retention=hour), StoreBuilder[SessionStore[str, int]])
assert_type(Stores.versioned_key_value("v", serdes.string, serdes.int64, history_retention=hour),
            StoreBuilder[VersionedKeyValueStore[str, int]])  # fmt: skip


def uses(store: KeyValueStore[str, int]) -> None:
    store.put("a", 1)
    store.put_all([("a", 1), ("b", None)])
    assert_type(store.delete("a"), int | None)
    assert_type(next(store.range("a", None)), tuple[str, int])
    assert_type(next(store.reverse_all()), tuple[str, int])
    store.put(1, 1)  # E: keys are text
    store.put("a", "b")  # E: values are numbers


words.filter(of_ints)  # E: keys and values are text
words.filter_not(of_ints)  # E: the same
words.peek(of_ints)  # E: the same
words.foreach(of_ints)  # E: the same
words.select_key(of_ints)  # E: the same
words.map_values(abs)  # E: text has no absolute value
words.process(OfInts)  # E: it reads numbers
words.repartition(value_serde=serdes.int64)  # E: values are text
words.split().branch(of_ints)  # E: keys and values are text
words.split().branch(starts_with_a, then=of_int_streams)  # E: the branch has text
sizes.filter_not(of_ints)  # E: keys are text
words.to(Topic("numbers", serdes.string, serdes.int64))  # E: values are text
