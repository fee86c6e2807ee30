"""The topology that is simulated, and what must come of an input log."""

from __future__ import annotations

import struct
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from streamlet import serdes
from streamlet.dsl.builder import StreamsBuilder
from streamlet.dsl.materialized import Materialized
from streamlet.topic import Topic
from streamlet.topology import Topology

INPUT = "input"
FORWARDED = "forwarded"
STORES = ("seen", "words", "cycles")
WORDS = 5
BUCKETS = 2
CYCLE = 3


def word_of(value: str, words: int) -> str:
    """The word that a record's value counts for."""
    return f"w{int(value) % words}"


def bucket_of(word: str) -> str:
    """Where a word's counts are counted."""
    return f"b{int(word[1:]) % BUCKETS}"


def topology(words: int = WORDS, prefix: str = "") -> Topology:
    """Forwards; counts keys; counts words behind a repartition topic, and the counts of words behind another.

    Args:
        words: How many different ones there are.
        prefix: Of the names of topics.
    """
    builder = StreamsBuilder()
    lines = builder.stream(Topic(prefix + INPUT, serdes.string, serdes.string))
    lines.to(Topic(prefix + FORWARDED, serdes.string, serdes.string))
    lines.group_by_key(key_serde=serdes.string, value_serde=serdes.string).count(store="seen").to_stream().to(
        Topic(prefix + "seen", serdes.string, serdes.int64)
    )
    counts = lines.group_by(
        lambda _, value: word_of(value, words), key_serde=serdes.string, value_serde=serdes.string
    ).count(store="words")
    counts.to_stream().to(Topic(prefix + "words", serdes.string, serdes.int64))
    counts.to_stream().map_values(str).group_by(
        lambda word, _: bucket_of(word), key_serde=serdes.string, value_serde=serdes.string
    ).aggregate(
        lambda: 0,
        lambda _key, _value, total: None if total == CYCLE else total + 1,
        store=Materialized("cycles", value_serde=serdes.int64),
    ).to_stream().to(Topic(prefix + "cycles", serdes.string, serdes.int64))
    return builder.build()


@frozen
class Expected:
    """What a correct run ends with.

    Attributes:
        forwarded: Values by key, in their order.
        outputs: For each output topic and key, the values in their order.
    """

    forwarded: Mapping[str, Sequence[str]]
    outputs: Mapping[str, Mapping[str, Sequence[int | None]]]


def expected(records: Sequence[tuple[str, str]], words: int = WORDS) -> Expected:
    """Work it out from the input."""
    forwarded: dict[str, list[str]] = defaultdict(list)
    counts: Counter[str] = Counter()
    for key, value in records:
        forwarded[key].append(value)
        counts[word_of(value, words)] += 1
    buckets: Counter[str] = Counter()
    for word, count in counts.items():
        buckets[bucket_of(word)] += count
    return Expected(
        forwarded,
        {
            "seen": {key: list(range(1, len(values) + 1)) for key, values in forwarded.items()},
            "words": {word: list(range(1, count + 1)) for word, count in counts.items()},
            "cycles": {bucket: [_cycle(n) for n in range(1, count + 1)] for bucket, count in buckets.items()},
        },
    )


def _cycle(nth: int) -> int | None:
    place = nth % (CYCLE + 1)
    return place or None


def read(messages: Sequence[Any], *, text: bool) -> dict[str, list[Any]]:
    """Values by key, in their order: `text`, or numbers."""
    found: dict[str, list[Any]] = defaultdict(list)
    for message in messages:
        value = message.value()
        if value is not None:
            value = value.decode() if text else struct.unpack(">q", value)[0]
        found[message.key().decode()].append(value)
    return found


def compare_exactly(wanted: Expected, found: Mapping[str, Mapping[str, Sequence[Any]]], tainted: set[str]) -> list[str]:
    """Exactly-once: each record once, in its order. `tainted` outputs hang on a changelog that was destroyed."""
    wrong: list[str] = []
    if dict(found[FORWARDED]) != dict(wanted.forwarded):
        wrong += _differences(FORWARDED, wanted.forwarded, found[FORWARDED])
    for topic, by_key in wanted.outputs.items():
        if topic not in tainted and dict(found[topic]) != dict(by_key):
            wrong += _differences(topic, by_key, found[topic])
    return wrong


def compare_least(wanted: Expected, found: Mapping[str, Mapping[str, Sequence[Any]]], tainted: set[str]) -> list[str]:
    """At-least-once: nothing is missing; more may be there."""
    wrong = [
        f"{FORWARDED}: {value!r} of {key!r} is missing"
        for key, values in wanted.forwarded.items()
        for value in values
        if value not in found[FORWARDED].get(key, ())
    ]
    for topic in ("seen", "words"):
        if topic in tainted:
            continue
        for key, values in wanted.outputs[topic].items():
            highest = max(found[topic].get(key, [0]))
            last = found[topic].get(key, [0])[-1]
            if highest < len(values) or last < len(values):
                wrong.append(f"{topic}: {key!r} ends at {last}, highest {highest}, {len(values)} wanted")
    return wrong


def _differences(topic: str, wanted: Mapping[str, Sequence[Any]], found: Mapping[str, Sequence[Any]]) -> list[str]:
    return [
        f"{topic}: {key!r}: wanted {_short(wanted.get(key, ()))}, found {_short(found.get(key, ()))}"
        for key in sorted({*wanted, *found})
        if list(wanted.get(key, ())) != list(found.get(key, ()))
    ]


def _short(values: Sequence[Any]) -> str:
    text = f"{list(values)}"
    return text if len(text) < 2_000 else f"{text[:1_000]} ... {text[-1_000:]}"
