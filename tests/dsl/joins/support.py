"""Joins in a test driver, and what they ought to give, computed from the whole input."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from attrs import frozen
from hypothesis import strategies as st

from streamlet import serdes
from streamlet.dsl.builder import StreamsBuilder
from streamlet.dsl.windows import JoinWindows
from streamlet.testing.driver import TopologyTestDriver
from streamlet.topic import Topic

LEFT = Topic("left", serdes.string, serdes.string)
RIGHT = Topic("right", serdes.string, serdes.string)
OUT = Topic("out", serdes.string, serdes.string)


class Piped(NamedTuple):
    """A record that is piped in."""

    left: bool
    key: str | None
    value: str | None
    timestamp: int


class Row(NamedTuple):
    """A result."""

    key: str | None
    value: str
    timestamp: int


def both(left: str | None, right: str | None) -> str:
    """The joiner of all tests."""
    return f"{left}+{right}"


def windows(before: int, after: int, grace: int) -> JoinWindows:
    """Join windows in milliseconds."""
    ms = timedelta(milliseconds=1)
    made = JoinWindows.of_time_difference(max(before, after, 0) * ms, grace=grace * ms)
    return made.before(before * ms).after(after * ms)


Kind = Literal["inner", "left", "outer"]


def run_join(records: Iterable[Piped], kind: Kind, given: JoinWindows, **config: Any) -> list[list[Row]]:
    """Join two streams; the results of each record."""
    builder = StreamsBuilder()
    left, right = builder.stream(LEFT), builder.stream(RIGHT)
    joined: Any
    match kind:
        case "inner":
            joined = left.join(right, both, given)
        case "left":
            joined = left.left_join(right, both, given)
        case "outer":
            joined = left.outer_join(right, both, given)
    joined.to(OUT)
    return run(builder, records, **config)


def run(builder: StreamsBuilder, records: Iterable[Piped], **config: Any) -> list[list[Row]]:
    """Pipe records in; the results of each."""
    found: list[list[Row]] = []
    with TopologyTestDriver(builder.build(), config, initial_wall_clock_time=0) as driver:
        sides = {True: driver.create_input_topic(LEFT), False: driver.create_input_topic(RIGHT)}
        out = driver.create_output_topic(OUT)
        for record in records:
            sides[record.left].pipe_input(record.key, record.value, timestamp=record.timestamp)
            found.append([Row(r.key, r.value, r.timestamp) for r in out.read_records_to_list()])
    return found


@frozen
class Arrival:
    """A record as the model sees it.

    Attributes:
        number: Its place in the input.
        latest: The highest timestamp of its side with key and value so far, its own included.
        now: The stream time at it.
    """

    number: int
    record: Piped
    latest: int
    now: int


def arrivals(records: list[Piped]) -> list[Arrival]:
    """The input with its times."""
    now, latest, found = -1, {True: -1, False: -1}, []
    for number, record in enumerate(records):
        now = max(now, record.timestamp)
        if record.key is not None and record.value is not None:
            latest[record.left] = max(latest[record.left], record.timestamp)
        found.append(Arrival(number, record, latest[record.left], now))
    return found


def expected_join(records: list[Piped], kind: Kind, given: JoinWindows) -> list[list[Row]]:
    """What a join gives: pairs by comparing all with all, rows without a partner by their windows' ends."""
    came = arrivals(records)
    kept = given.size_ms + given.grace_ms
    found: list[list[Row]] = [[] for _ in records]
    matched_at: dict[int, int] = {}
    for new in came:
        if new.record.key is None or new.record.value is None:
            continue
        partners = []
        for old in came[: new.number]:
            other = old.record
            if other.left is new.record.left or other.key != new.record.key or other.value is None:
                continue
            latest = came[new.number - 1]
            side_latest = max(a.latest for a in came[: new.number] if a.record.left is other.left)
            gap = (other.timestamp - new.record.timestamp) * (1 if new.record.left else -1)
            was_kept = other.timestamp >= old.latest - kept and other.timestamp >= side_latest - kept
            if -given.before_ms <= gap <= given.after_ms and was_kept and latest is not None:
                partners.append(old)
        for old in sorted(partners, key=lambda old: (old.record.timestamp, old.number)):
            matched_at.setdefault(old.number, new.number)
            pair = (new, old) if new.record.left else (old, new)
            value = both(pair[0].record.value, pair[1].record.value)
            found[new.number].append(Row(new.record.key, value, max(new.record.timestamp, old.record.timestamp)))
        if partners:
            matched_at.setdefault(new.number, new.number)
    if kind == "inner":
        return found
    return _with_unmatched(came, kind, given, found, matched_at)


def _with_unmatched(
    came: list[Arrival], kind: Kind, given: JoinWindows, found: list[list[Row]], matched_at: dict[int, int]
) -> list[list[Row]]:
    early: list[list[Arrival]] = [[] for _ in came]
    at_once: list[list[Row]] = [[] for _ in came]
    for arrival in came:
        record = arrival.record
        if record.value is None or not (record.left or kind == "outer"):
            # a left join makes nothing of right rows
            continue
        if record.key is None:
            at_once[arrival.number].append(_alone(record))
            continue
        if matched_at.get(arrival.number) == arrival.number:
            continue
        after = given.after_ms if record.left else given.before_ms
        if record.timestamp + after < arrival.now:
            at_once[arrival.number].append(_alone(record))
            continue
        for later in came[arrival.number + 1 :]:
            if matched_at.get(arrival.number, len(came)) < later.number:
                break
            moves = later.record.timestamp == later.now and later.record.value is not None
            sends = moves and (later.record.key is not None)
            if sends and record.timestamp + after + given.grace_ms < later.now:
                early[later.number].append(arrival)
                break
            if matched_at.get(arrival.number) == later.number:
                break
    order = [
        sorted(rows, key=lambda a: (a.record.timestamp, a.record.left, str(a.record.key), a.number)) for rows in early
    ]
    return [
        [*(_alone(a.record) for a in order[number]), *found[number], *at_once[number]] for number in range(len(came))
    ]


def _alone(record: Piped) -> Row:
    value = both(record.value, None) if record.left else both(None, record.value)
    return Row(record.key, value, record.timestamp)


def inputs(*, latest: int = 60, keys: str = "ab") -> st.SearchStrategy[list[Piped]]:
    """Records of both sides: out of order, late, at the same times, without keys or values."""
    # values tell records apart
    record = st.tuples(
        st.booleans(),
        st.one_of(st.sampled_from(keys), st.sampled_from([*keys, None])),
        st.integers(0, 9).map(lambda n: n != 0),
        st.integers(0, latest),
    )
    return st.lists(record, max_size=14).map(
        lambda drawn: [
            Piped(left, key, f"{'l' if left else 'r'}{number}" if has_value else None, time)
            for number, (left, key, has_value, time) in enumerate(drawn)
        ]
    )


def join_windows() -> st.SearchStrategy[JoinWindows]:
    """Windows of all shapes: symmetric, one-sided, beside the record."""
    return st.builds(
        lambda before, size, grace: windows(before, size - before, grace),
        st.integers(-10, 20),
        st.integers(0, 30),
        st.integers(0, 20),
    )
