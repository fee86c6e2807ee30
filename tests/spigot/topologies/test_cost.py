"""What a transition costs: counted in entries and bytes, the same however large the loop is."""

from __future__ import annotations

import pytest
from attrs import define

from spigot_topologies import each, get, parallelize, task
from spigot_topologies.wire import Result, TaskMessage, decode_task
from streamlet import Record, Topic, serdes
from streamlet.testing.messages import TestMessage
from tests.spigot.topologies.harness import TASKS, WORKFLOWS, Bench


@define
class Costs:
    transitions: int = 0
    entries: int = 0
    bytes: int = 0
    largest: int = 0


def run_loop(count: int, *, throttle: int | None, per_commit: int, width: int = 5) -> tuple[Costs, int]:
    """Runs a loop with a commit for so many commands; gives the costs of its middle, and how many tasks were sent.

    Args:
        count: How many items; each is its number as a text.
        throttle: Of the loop.
        per_commit: How many results come between two commits.
        width: How many characters an item has.
    """
    costs = Costs()
    sent = done = 0
    with Bench() as bench:
        unit = bench.driver._units[0]
        outgoing = bench.driver.create_output_topic(Topic(TASKS, serdes.bytes_, serdes.bytes_))
        again = bench.driver.create_output_topic(Topic(WORKFLOWS, serdes.bytes_, serdes.bytes_))
        do = task("t", in_={"i": get("?i")}, out={"?r": get("r")})
        options = {} if throttle is None else {"throttle": throttle}
        plan = parallelize("?i", get("?items"), into={"?all": each(get("?r"))}, do=do, **options)
        bench.create("w", plan, {"?items": [f"{number:0{width}}" for number in range(count)]})
        bench.driver._pending.clear()
        key = bench.key("w")
        results: list[TestMessage] = []

        def message(value: bytes, headers: object = ()) -> TestMessage:
            return TestMessage(WORKFLOWS, key, value, 1_000, headers, 0, bench.driver._next_offset(WORKFLOWS))  # type: ignore[arg-type]

        while True:
            for record in outgoing.read_records_to_list():
                one = decode_task(record.value, bench.codec)
                assert isinstance(one, TaskMessage)
                sent += 1
                result = Result(one.task_id, {"r": one.params["i"]})
                results.append(message(bench.workflows.value_serde.serialize(result)))
            steps: list[Record[bytes, bytes]] = again.read_records_to_list()
            batch = [message(step.value, step.headers) for step in steps]
            bench.driver._pending.clear()
            batch += results[:per_commit]
            done += min(per_commit, len(results))
            del results[:per_commit]
            if not batch:
                break
            unit.task.add_records(WORKFLOWS, 0, batch)
            while unit.task.process(1_000):
                pass
            changes = [record for _, records in unit.state.changes() for record in records]
            if count * 0.3 < done < count * 0.8:
                costs.transitions += len(batch)
                costs.entries += len(changes)
                costs.bytes += sum(len(record.key) + len(record.value or b"") for record in changes)
            sizes = [len(record.value or b"") for record in changes]
            costs.largest = max([costs.largest, *sizes])
            unit.state.commit({})
            unit.task.committed()
        (end,) = bench.events()
        assert end.status == "success"
    return costs, sent


def test_bytes_and_entries_of_a_transition_do_not_grow_with_the_loop() -> None:
    small, sent = run_loop(100, throttle=10, per_commit=1)
    assert sent == 100
    large, sent = run_loop(2_000, throttle=10, per_commit=1)
    assert sent == 2_000
    assert large.entries / large.transitions <= 1.2 * small.entries / small.transitions
    assert large.bytes / large.transitions <= 1.2 * small.bytes / small.transitions
    assert large.entries / large.transitions <= 5
    assert large.bytes / large.transitions <= 300


@pytest.mark.parametrize(
    ("count", "width"),
    [(10_000, 60), pytest.param(100_000, 6, marks=pytest.mark.long)],  # 600 kB of items either way
)
def test_a_large_loop_without_a_throttle_in_transactions_of_bounded_size(count: int, width: int) -> None:
    costs, sent = run_loop(count, throttle=None, per_commit=1_000, width=width)
    assert sent == count
    assert costs.largest <= 300_000
    assert costs.bytes / costs.transitions <= 400
