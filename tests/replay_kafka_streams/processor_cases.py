"""Cases that drove one processor of Kafka Streams directly, without a topology: session aggregation and suppression."""

from __future__ import annotations

from typing import Any

from streamlet.dsl.table import KTable
from streamlet.dsl.table_steps import TableStep
from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.records import Headers, Window, Windowed
from streamlet.runtime.handlers import Response
from tests.replay_kafka_streams import api
from tests.replay_kafka_streams.compare import Record, as_recorded, difference
from tests.replay_kafka_streams.describe_text import Graph
from tests.replay_kafka_streams.drive import ListeningDriver, pipe
from tests.replay_kafka_streams.functions import Functions, handler_fails
from tests.replay_kafka_streams.natural import NaturalSerde
from tests.replay_kafka_streams.plan import Plan
from tests.replay_kafka_streams.rebuild_aggregates import windowed_by
from tests.replay_kafka_streams.rebuild_streams import capture, topic
from tests.replay_kafka_streams.rebuild_tables import suppressed
from tests.replay_kafka_streams.verdict import DifferentError, OutOfScopeError
from tests.replay_kafka_streams.words import Op

_INPUT = "(processor input)"


def exception_config(functions: Functions) -> dict[str, Any]:
    """Return the processing exception handler of a case: as its method's name says."""

    def handle(_context: Any, record: Any, _error: Exception) -> Any:
        if "FATAL" in record.key:
            raise RuntimeError("KABOOM!")
        if "NULL" in record.key:
            return None
        return Response.fail() if handler_fails(functions) else Response.resume()

    return {"processing.exception.handler": handle}


def replay(case: dict[str, Any], functions: Functions, recorded: tuple[Op, ...]) -> None:
    """Replay a case that gave records to a processor.

    Raises:
        OutOfScopeError: If streamlet has no such operator.
        DifferentError: If something else comes out.
    """
    names = {op.name for op in recorded}
    serde = NaturalSerde()
    builder = api.make("StreamsBuilder", default_key_serde=serde, default_value_serde=serde)
    plan = Plan(Graph({}), functions, recorded, builder, serde)
    if names == {"sessionWindowAggregate"}:
        table = _session_table(plan)
    elif names == {"suppress"}:
        table = api.call(_table_of_changes(plan), "suppress", suppressed(recorded[-1]))
    else:
        raise OutOfScopeError("unknown topology: a processor driven directly")
    topology = builder.build()
    topology.add_processor("forwarded", capture(plan, "(forward)"), table.step.name)
    _drive(case, topology, plan)


def _session_table(plan: Plan) -> Any:
    """Return the table of the aggregation that these tests use; the last operator recorded is the one driven."""
    grouped = api.call(api.call(plan.builder, "stream", topic(plan, "input")), "group_by_key")
    windowed = windowed_by(grouped, plan.ops[-1])
    retention = api.ms(3 * plan.ops[0].number("gapMs"))  # that of the tests' store
    return api.call(
        windowed,
        "aggregate",
        int,
        lambda key, value, aggregate: aggregate + 1,
        lambda key, first, second: first + second,
        store=api.make("Materialized", "session-store", retention=retention),
    )


class _Inject(Operator):
    """Takes changes as values, and sends them on as changes."""

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""

        def inject(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            forward(key, value, timestamp, headers)

        return inject


def _table_of_changes(plan: Plan) -> Any:
    stream = api.call(plan.builder, "stream", topic(plan, "input"))
    step = TableStep("changes", [stream.step], lambda _step: _Inject())
    if "WindowEndTimeDefinition" in plan.ops[-1].text:
        step.grace_ms = plan.ops[-1].milliseconds("timeToWaitForMoreEvents")
    step.grace_ms = min(plan.ops[-1].milliseconds("timeToWaitForMoreEvents"), 10**14)  # as if of windows before it
    stream.plan.add(step)
    return KTable(stream.plan, step, stream.serdes, stream.sources, None)


def _drive(case: dict[str, Any], topology: Any, plan: Plan) -> None:
    driver = ListeningDriver(topology, {"application.id": "replay"}, initial_wall_clock_time=0)
    seen: list[list[Record]] = []
    try:
        for step in case["inputs"]:
            plan.events.clear()
            given = {**step, "topic": "input", "key": _revived(step["key"]), "value": _revived(step["value"])}
            failure = pipe(driver, given, plan.serde)
            full = "ShutDown" in plan.functions.method and step is case["inputs"][-1]
            if failure is not None and not full:
                raise DifferentError(f"failed: {type(failure).__name__}: {failure}")
            if failure is None and full:
                raise DifferentError("the buffer is full, but nothing was raised")
            seen.append(
                [
                    {"key": as_recorded(e.key), "value": as_recorded(e.value), "ts": e.timestamp, "node": e.node}
                    for e in plan.events
                ]
            )
    finally:
        driver.close()
    _compare(case["expected"], seen)


def _revived(value: Any) -> Any:
    """Return a recorded key or value: objects are windowed keys or changes."""
    if isinstance(value, dict) and "start" in value:
        return Windowed(_revived(value["key"]), Window(value["start"], value["end"]))
    if isinstance(value, dict) and "new" in value:
        return (value["new"], value["old"], value["isLatest"])
    return value


def _compare(expected: list[list[Record]], seen: list[list[Record]]) -> None:
    """Compare input by input; with Java's cache everything came at the end, the last state of each key once."""
    if expected and not any(expected[:-1]) and any(seen[:-1]):
        wanted, got = _by_key(expected[-1]), _by_key([record for records in seen for record in records])
        got = [record for record in got if record["value"]["new"] is not None or record in wanted]
        told = difference(wanted, got)
        if told is not None:
            raise DifferentError(f"at the flush of the cache: {told}")
        return
    for position, (wanted, got) in enumerate(zip(expected, seen, strict=True)):
        told = difference(wanted, got)
        if told is not None:
            raise DifferentError(f"input {position}: {told}")


def _by_key(records: list[Record]) -> list[Record]:
    """Return the last record of each key, in an order of their own: that of the cache is Java's."""
    last = {repr(record["key"]): record for record in records}
    return [last[key] for key in sorted(last)]
