"""State in parts: what a step reads and writes, splitting, limits, and what is left behind."""

from __future__ import annotations

from collections import deque
from typing import Any
from uuid import UUID
from zlib import decompress

import pytest

from spigot_topologies.plan import catch, each, get, isolate, parallel, parallelize, serial, serialize, task, try_
from spigot_topologies.values import Keyword, Symbol
from spigot_topologies.workflow import MAX_PART_BYTES, DictParts, Task, Workflow, create
from spigot_topologies.workflow.compiled import plan_hash
from streamlet.errors import StateStoreError

RUN = UUID(int=1)


class CountedParts(DictParts):
    """Counts reads, writes and bytes of values."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self.reads = self.writes = self.bytes = self.largest = 0

    def get(self, part_key: bytes, /) -> bytes | None:
        self.reads += 1
        return super().get(part_key)

    def put(self, part_key: bytes, value: bytes, /) -> None:
        self.writes += 1
        self.bytes += len(value)
        self.largest = max(self.largest, len(value))
        super().put(part_key, value)

    def delete(self, part_key: bytes, /) -> None:
        self.writes += 1
        super().delete(part_key)


def load(parts: DictParts) -> Workflow:
    workflow = Workflow.load(parts)
    assert workflow is not None
    return workflow


def flat_loop(throttle: int | None = 10) -> Any:
    do = task("t", in_={"i": get("?i")}, out={"?seat": get("seat")})
    return parallelize("?i", get("?items"), throttle=throttle, do=do, into={"?seats": each(get("?seat"))})


def deep_loop() -> Any:
    step = task("t", in_={"i": get("?i")}, out={"?seat": get("seat")})
    do = serial(step, try_(isolate(step, commit={"?seat": get("?seat")}), catch("?e", step)))
    return serial(parallelize("?i", get("?items"), throttle=10, do=do, into={"?seats": each(get("?seat"))}), step)


def steady_steps(plan: Any, items: int, steps: int) -> list[tuple[int, int, int, int]]:
    """Reads, writes, bytes and the largest entry of some steps in the middle of a loop."""
    parts = CountedParts()
    workflow = create(plan, {"?items": [f"item-{number:06}" for number in range(items)]}, id=RUN, parts=parts)
    waiting = deque(workflow.next())
    workflow.flush()
    found = []
    for _ in range(steps):
        parts.reset()
        workflow = load(parts)
        started = waiting.popleft()
        assert workflow.succeed(started.id, {"seat": "12A"}).applied
        waiting.extend(workflow.next(1000))
        workflow.flush()
        found.append((parts.reads, parts.writes, parts.bytes, parts.largest))
    return found


@pytest.mark.parametrize(("plan", "entries"), [(flat_loop(), 3), (deep_loop(), 7)], ids=["flat", "deep"])
def test_a_step_costs_the_same_in_a_large_loop(plan: Any, entries: int) -> None:
    small, large = steady_steps(plan, 100, 60), steady_steps(plan, 100_000, 60)
    assert [step[:2] for step in small] == [step[:2] for step in large]
    assert [step[2] for step in small] == [step[2] for step in large]
    assert sum(step[1] for step in large) / len(large) <= entries
    assert max(step[2] for step in large) <= 260


def total_bytes(items: int) -> float:
    """Bytes of all values written, the plan and the items included, by the number of transitions."""
    parts = CountedParts()
    passengers = [{"id": 1_000_000 + number, "name": "Passenger"} for number in range(items)]
    workflow = create(flat_loop(), {"?items": passengers}, id=RUN, parts=parts)
    workflow.flush()
    transitions = 0
    waiting: deque[Task] = deque()
    while True:
        workflow = load(parts)
        if waiting:
            assert workflow.succeed(waiting.popleft().id, {"seat": "12A"}).applied
        waiting.extend(workflow.next(1000))
        workflow.flush()
        transitions += 1
        if not waiting:
            assert load(parts).status == "success"
            return parts.bytes / transitions


def test_bytes_per_transition_do_not_grow() -> None:
    figures = [total_bytes(items) for items in (10, 100, 1_000, 10_000)]
    assert max(figures) <= 1.2 * min(figures)
    assert max(figures) < 260


def test_a_loop_started_in_portions_starts_everything_once() -> None:
    parts = CountedParts()
    items = [f"item-{number}" for number in range(2500)]
    workflow = create(flat_loop(None), {"?items": items}, id=RUN, parts=parts)
    workflow.flush()
    found: list[list[Task]] = []
    while (workflow := load(parts)).has_more:
        parts.reset()
        found.append(workflow.next(1000))
        workflow.flush()
        assert parts.writes < 1100
    assert [len(portion) for portion in found] == [1000, 1000, 500]
    assert [started.params["i"] for portion in found for started in portion] == items
    assert load(parts).running_count == len(load(parts).running) == 2500


def test_results_between_the_portions() -> None:
    workflow = create(flat_loop(None), {"?items": list(range(10))}, id=RUN, parts=DictParts())
    first = workflow.next(4)
    workflow.succeed(first[0].id, {"seat": 1})
    assert [started.path for started in workflow.next(4)] == ["r.4", "r.5", "r.6", "r.7"]
    workflow.fail(first[1].id)
    assert workflow.next(4) == []
    assert not workflow.has_more


def test_dropped_scopes_are_deleted_in_portions() -> None:
    step = task("t", out={"?seat": get("seat")})
    plan = serial(parallelize("?i", get("?items"), do=serial(step, step), into={"?seats": each(get("?seat"))}), ["z"])
    parts = CountedParts()
    workflow = create(plan, {"?items": list(range(250))}, id=RUN, parts=parts)
    waiting = deque(workflow.next())
    while waiting:
        started = waiting.popleft()
        if started.tag != "z":
            workflow.succeed(started.id, {"seat": started.path})
            waiting.extend(workflow.next(100))
    workflow.flush()
    assert load(parts).scope["?seats"] == [f"r.0.{number}.1" for number in range(250)]
    left = [sum(key[:1] == b"s" for key in parts.entries)]
    while (workflow := load(parts)).has_more:
        assert workflow.next(100) == []
        workflow.flush()
        left.append(sum(key[:1] == b"s" for key in parts.entries))
    assert left == [150, 50, 0]


def test_large_entries_are_split_and_shrink_again() -> None:
    large = "x" * (3 * MAX_PART_BYTES)
    plan = serial(
        parallelize(
            "?i", get("?items"), do=task("t", in_={"i": get("?i")}, out={"?r": get("r")}), into={"?rs": each(get("?r"))}
        ),
        task("u", in_={"rs": get("?rs")}, out={"?rs": get("r")}),
    )
    parts = CountedParts()
    create(plan, {"?items": [large, large]}, id=RUN, parts=parts).flush()
    workflow = load(parts)
    tasks = workflow.next()
    assert all(started.params["i"] == large for started in tasks)
    workflow.flush()
    for started in tasks:
        workflow = load(parts)
        assert workflow.succeed(started.id, {"r": started.params["i"]}).applied
        assert workflow.succeed(started.id, {}).reason == "duplicate"
        workflow.flush()
        assert load(parts).succeed(started.id, {}).reason == "duplicate"
    workflow = load(parts)
    (last,) = workflow.next()
    workflow.flush()
    assert load(parts).scope["?rs"] == last.params["rs"] == [large, large]
    assert parts.largest <= MAX_PART_BYTES
    workflow = load(parts)
    workflow.succeed(last.id, {"r": "small"})
    workflow.flush()
    assert load(parts).scope["?rs"] == "small"
    assert not [key for key in parts.entries if key.startswith(b"xr?rs")]


def test_nothing_is_written_by_a_rejected_result() -> None:
    parts = CountedParts()
    workflow = create(serial(["a"], ["b"]), id=RUN, parts=parts)
    (started,) = workflow.next()
    workflow.succeed(started.id)
    workflow.next()
    workflow.flush()
    parts.reset()
    workflow = load(parts)
    assert workflow.succeed(started.id).reason == "duplicate"
    assert workflow.flush() == 0
    assert parts.writes == 0


def test_kinds_survive_and_a_scope_reads_single_keys() -> None:
    parts = CountedParts()
    scope = {Symbol("?x"): (Keyword("k"), {"a": Symbol("s")}), Keyword("y"): 2**70, "?large": ["x"] * 1000}
    create(
        [Keyword("t"), {Keyword("spigot/in"): {Keyword("x"): (Symbol("spigot/get"), Symbol("?x"))}}], scope, parts=parts
    ).flush()
    workflow = load(parts)
    (started,) = workflow.next()
    assert repr(started.params["x"]) == repr(scope["?x"])
    assert [repr(key) for key in started.params] == ["Keyword('x')", "Keyword('spigot/id')"]
    parts.reset()
    assert workflow.scope["y"] == 2**70
    assert parts.reads == 1
    assert dict(workflow.scope) == scope
    assert [repr(key) for key in workflow.scope][:2] == ["Symbol('?x')", "Keyword('y')"]
    assert "?nothing" not in workflow.scope


def test_values_that_state_cannot_hold_fail_the_task() -> None:
    parts = DictParts()
    workflow = create(task("a", out={"?x": get("x")}), parts=parts)
    (started,) = workflow.next()
    assert workflow.succeed(started.id, {"x": object()}).applied
    assert workflow.error is not None
    assert "state cannot hold a builtins.object" in workflow.error["message"]
    workflow.flush()
    assert load(parts).error == workflow.error


def test_there_is_no_workflow_in_empty_parts_and_a_newer_format_is_refused() -> None:
    assert Workflow.load(DictParts()) is None
    parts = DictParts()
    create(["a"], parts=parts).flush()
    parts.entries[b"m"] = b"\x09" + parts.entries[b"m"][1:]
    with pytest.raises(ValueError, match="newer version"):
        Workflow.load(parts)


def test_a_known_plan_is_not_read_again() -> None:
    parts = CountedParts()
    create(serial(["only-here"]), parts=parts).flush()
    assert plan_hash(decompress(parts.entries[b"p"])) == parts.entries[b"m"][17:33]
    parts.reset()
    load(parts)
    assert parts.reads == 2


def one_step(parts: DictParts, started: Task) -> None:
    workflow = load(parts)
    workflow.succeed(started.id, {})
    workflow.next()
    workflow.flush()


class BrokenParts(DictParts):
    """Raises at some reads, as a store does whose task has moved away."""

    broken: tuple[bytes, ...] = ()

    def get(self, part_key: bytes, /) -> bytes | None:
        if part_key.startswith(self.broken):
            raise OSError("the store is closed")
        return super().get(part_key)


@pytest.mark.parametrize("kind", [b"i", b"r", b"v"])
def test_what_goes_wrong_in_the_store_is_no_tasks_failure(kind: bytes) -> None:
    step = task("t", in_={"i": get("?i"), "x": get("?x"), "b": get("?b")}, out={"?r": get("?i"), "?q": get("?b")})
    loop = serialize("?i", ["a", "b"], do=step)
    parts = BrokenParts()
    workflow = create(isolate(loop, binding={"?b": 1}), {"?x": 1}, parts=parts)
    (started,) = workflow.next()
    workflow.flush()
    before = dict(parts.entries)
    parts.broken = (kind,)
    with pytest.raises(OSError, match="the store is closed"):
        one_step(parts, started)
    assert parts.entries == before
    parts.broken = ()
    for key in [key for key in parts.entries if key[:1] == kind]:
        del parts.entries[key]
    if kind != b"r":
        with pytest.raises(StateStoreError, match="only partly restored"):
            load(parts).succeed(started.id, {})


def test_a_limit_bounds_groups_without_tasks_too() -> None:
    plan = parallelize("?i", get("?items"), do=serial(parallel()))
    parts = CountedParts()
    create(plan, {"?items": list(range(2000))}, parts=parts).flush()
    steps = 0
    while (workflow := load(parts)).has_more:
        parts.reset()
        assert workflow.next(10) == []
        workflow.flush()
        assert parts.writes < 1500
        steps += 1
    assert load(parts).status == "success"
    assert steps > 5


def test_limits() -> None:
    workflow = create(["a"])
    assert workflow.next(0) == []
    assert (workflow.status, workflow.has_more) == ("init", True)
    with pytest.raises(ValueError, match="at least 0"):
        workflow.next(-1)
