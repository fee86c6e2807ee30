"""Pipes a case's inputs into a topology and compares what comes out, input by input."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from streamlet.errors import StreamsError
from streamlet.records import Headers
from streamlet.testing.driver import TopologyTestDriver
from streamlet.topic import Topic
from tests.replay_kafka_streams.compare import Record, as_cached, as_recorded, difference, in_any_order, started_from
from tests.replay_kafka_streams.functions import Functions, handler_fails
from tests.replay_kafka_streams.natural import NaturalSerde
from tests.replay_kafka_streams.plan import Event, Plan
from tests.replay_kafka_streams.verdict import DifferentError, OutOfScopeError
from tests.replay_kafka_streams.words import Op

_APPLICATION = "replay"
_INTERNAL = re.compile(r"-(repartition|changelog|topic)$")
_UNKNOWN_APPLICATION = re.compile(r"^.*?-(?=(KSTREAM|KTABLE|COGROUPKSTREAM)-)")


class ListeningDriver(TopologyTestDriver):
    """A driver that keeps all that was written, over all topics, in order."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.written: list[tuple[str, bytes | None, bytes | None, int]] = []
        super().__init__(*arguments, **options)

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        headers: Headers,
        partition: int | None,
        node: str,
        /,
    ) -> None:
        """See `TopologyTestDriver`."""
        self.written.append((topic, key, value, timestamp))
        super().send(topic, key, value, timestamp, headers, partition, node)


def run(case: dict[str, Any], topology: Any, plan: Plan, config: dict[str, Any]) -> None:
    """Replay a case.

    Raises:
        DifferentError: At the first input whose output differs.
        OutOfScopeError: If all that differs is what streamlet does otherwise on purpose.
    """
    earliest = min((step["ts"] for step in case["inputs"] if "ts" in step), default=0)
    if earliest < 0 and case.get("ts_rebased"):  # moving the times so that the first is 1 made others negative
        case = _later(case, -earliest)
    given = {"application.id": _APPLICATION, **config}
    aside = {record["topic"] for records in case.get("internal_topics") or [] for record in records}
    piped = plan.functions.flags["piped"] = []
    driver = ListeningDriver(topology, given, initial_wall_clock_time=0)
    try:
        for position, (wanted, step) in enumerate(zip(case["expected"], case["inputs"], strict=True)):
            plan.events.clear()
            piped.append(step)
            driver.written.clear()
            failure = pipe(driver, step, plan.serde)
            told = _compare(wanted, plan, driver, aside)
            expected = _failure_expected(plan.functions, step)
            if told is None and failure is not None and not expected:
                told = f"failed: {type(failure).__name__}: {failure}"
            if told is None and failure is None and expected:
                told = "expected a failure"
            internal = (case.get("internal_topics") or [])[position : position + 1]
            if told is None and internal:
                told = _compare_internal(internal[0], driver)
            if told is not None:
                raise DifferentError(f"input {position} ({_shown(step)}): {told}")
    finally:
        driver.close()
    if "more" in plan.functions.flags:
        raise OutOfScopeError(plan.functions.flags["more"])


def _later(data: Any, by: int) -> Any:
    """Return a case with all times moved."""
    if isinstance(data, list):
        return [_later(item, by) for item in data]
    if isinstance(data, dict):
        return {key: value + by if key == "ts" else _later(value, by) for key, value in data.items()}
    return data


def _shown(step: dict[str, Any]) -> str:
    if "wallclock_advance_ms" in step:
        return f"clock +{step['wallclock_advance_ms']} ms"
    return f"{step['key']!r}={step['value']!r}@{step['ts']} on {step['topic']}"


def pipe(driver: ListeningDriver, step: dict[str, Any], serde: NaturalSerde) -> Exception | None:
    """Pipe one input in, or advance the clock; return what was raised."""
    try:
        if "wallclock_advance_ms" in step:
            driver.advance_wall_clock_time(timedelta(milliseconds=step["wallclock_advance_ms"]))
        else:
            topic = driver.create_input_topic(Topic(step["topic"], serde, serde))
            topic.pipe_input(step["key"], step["value"], timestamp=step["ts"])
    except (StreamsError, RuntimeError) as error:
        return error
    return None


def _failure_expected(functions: Functions, step: dict[str, Any]) -> bool:
    """Tell whether an input has to fail: a processor fails on it, and the handler says so, or fails itself."""
    key = str(step.get("key"))
    if not functions.flags.get("exceptions") or "ERR" not in key:
        return False
    return handler_fails(functions) or "FATAL" in key or "NULL" in key


# --- what came out --------------------------------------------------------------------------------------------------


def _compare(wanted: list[Record], plan: Plan, driver: ListeningDriver, aside: set[str]) -> str | None:
    """Compare what the terminal processors saw, and what was written to topics, each in its order.

    How the two interleave says nothing: the recorder took the topics' records up when the task had done with its input.
    """
    told = _difference([record for record in wanted if "topic" not in record], [_seen(e) for e in plan.events], plan)
    if told is not None:
        return told
    topics = [record for record in wanted if "topic" in record]
    names = {_plain(record["topic"]) for record in topics}
    wanted_topics = [{**record, "topic": _plain(record["topic"])} for record in topics]
    written = [record for record in _written(driver, plan, names) if record["topic"] not in aside]
    return _difference(wanted_topics, written, plan)


def _difference(expected: list[Record], actual: list[Record], plan: Plan) -> str | None:
    """Compare the records of one input, allowing for what hangs on Java's cache or on a store of the test's own."""
    told = difference(expected, actual)
    if told is None:
        return None
    if plan.functions.flags["walks_forward"]:
        return difference(in_any_order(expected), in_any_order(actual))
    if plan.op("sessionWindowAggregate") and difference(expected, as_cached(actual)) is None:
        return None  # the cache hides that a session is taken away before it comes again
    if _are_lost(expected, actual, plan):
        plan.functions.flags["more"] = _LOST
        return None
    return told


_LOST = (
    "refused: final results that Kafka Streams loses, because their rows expire when time leaps, are sent here; "
    "all others are equal"
)


def _are_lost(expected: list[Record], actual: list[Record], plan: Plan) -> bool:
    """Tell whether what is there too many are windows that had expired in Kafka Streams' store before they closed.

    The store forgets what starts its retention before the latest window put into it.
    """
    latest = max(step["ts"] for step in plan.functions.flags["piped"])
    for op in plan.ops:
        if op.name in ("windowAggregate", "slidingWindowAggregate") and op.word("emit") == "ON_WINDOW_CLOSE":
            oldest = latest - _length(op) - _retention(op) + 1
            if difference(expected, started_from(actual, oldest)) is None:
                return True
    return False


def _retention(op: Op) -> int:
    if op.name == "slidingWindowAggregate":
        return 2 * op.number("sizeMs") + op.number("graceMs")
    return op.number("sizeMs") + op.number("graceMs")


def _length(op: Op) -> int:
    return op.number("sizeMs") if op.name == "slidingWindowAggregate" else 0


def _seen(event: Event) -> Record:
    return {"key": as_recorded(event.key), "value": as_recorded(event.value), "ts": event.timestamp, "node": event.node}


def _plain(topic: str) -> str:
    """Return an internal topic's name without the application's id, which was made up by each test."""
    if not _INTERNAL.search(topic):
        return topic
    short = _UNKNOWN_APPLICATION.sub("", topic)
    return short.removeprefix(f"{_APPLICATION}-") if short == topic else short


def _written(driver: ListeningDriver, plan: Plan, names: set[str]) -> list[Record]:
    """Return what was written to the topics that are no internal ones, or that were asked for."""
    written = []
    for topic, key, value, timestamp in driver.written:
        name = _plain(topic)
        wanted = name if name in names else next((other for other in names if other.endswith(f"-{name}")), None)
        if topic.startswith(f"{_APPLICATION}-") and _INTERNAL.search(topic) and wanted is None:
            continue
        written.append(
            {
                "key": as_recorded(plan.serde.deserialize(key)),  # type: ignore[arg-type]  # None stays None
                "value": as_recorded(plan.serde.deserialize(value)),  # type: ignore[arg-type]
                "ts": timestamp,
                "topic": wanted or name,
            }
        )
    return written


# --- internal topics ------------------------------------------------------------------------------------------------


def _compare_internal(wanted: list[Record], driver: ListeningDriver) -> str | None:
    """Compare the bytes written to repartition topics, where the recording has them as bytes or as text."""
    expected = [record for record in wanted if record["topic"].endswith("-repartition")]
    actual = [
        {"topic": _plain(topic), "key": key, "value": value, "ts": timestamp}
        for topic, key, value, timestamp in driver.written
        if topic.startswith(f"{_APPLICATION}-") and topic.endswith("-repartition")
    ]
    if len(expected) != len(actual):
        return f"internal topics: expected {len(expected)} records, got {len(actual)}"
    for position, (wanted_record, got) in enumerate(zip(expected, actual, strict=True)):
        name = got["topic"]
        if not wanted_record["topic"].endswith(name):
            return f"internal record {position}: expected topic {wanted_record['topic']}, got {name}"
        for side in ("key", "value"):
            if not _same_bytes(wanted_record[side], got[side]):
                return f"internal record {position} of {name}: expected {wanted_record[side]!r}, got {got[side]!r}"
        if wanted_record["ts"] != got["ts"]:
            return f"internal record {position} of {name}: expected ts {wanted_record['ts']}, got {got['ts']}"
    return None


def _same_bytes(expected: Any, actual: bytes | None) -> bool:
    if expected is None or actual is None:
        return expected is actual
    if isinstance(expected, dict):
        return bool(bytes.fromhex(expected["hex"]) == actual)
    if isinstance(expected, str):
        return expected.encode() == actual
    if isinstance(expected, int):
        return int.from_bytes(actual, "big", signed=True) == expected
    return True
