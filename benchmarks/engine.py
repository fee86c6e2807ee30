"""The workflow engine alone: a chain of 10 tasks, loops of 100 to 100,000, state written after each step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any
from uuid import UUID

from attrs import frozen

from benchmarks.meter import between, now
from spigot_topologies.plan import each, get, parallelize, serial, task
from spigot_topologies.workflow import DictParts, Task, Workflow, create

_RUN = UUID(int=1)
_NEXT = 1_000


class CountedParts(DictParts):
    """Counts the entries written and the bytes of their values."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = self.bytes = 0

    def put(self, part_key: bytes, value: bytes, /) -> None:
        """Write one."""
        self.writes += 1
        self.bytes += len(value)
        super().put(part_key, value)

    def delete(self, part_key: bytes, /) -> None:
        """Delete one."""
        self.writes += 1
        super().delete(part_key)


@frozen
class EngineRun:
    """One workflow from its creation to its end; a transition takes a result in, starts what follows, and is written.

    Attributes:
        plan: Name of the plan.
        transitions: How many.
        micros: CPU microseconds of one; loading the workflow from its parts and writing it included.
        bytes: Bytes of values written by one, with plan and items spread over all.
        entries: Entries written or deleted by one.
    """

    plan: str
    transitions: int
    micros: float
    bytes: float
    entries: float


def plans(sizes: Sequence[int]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Names, plans and scopes."""
    step = task("step", in_={"seat": get("?seat")}, out={"?seat": get("seat")})
    yield "chain of 10", serial(*[step] * 10), {"?seat": "1A"}
    body = task("rebook", in_={"who": get("?who")}, out={"?seat": get("seat")})
    for size in sizes:
        items = [{"id": 1_000_000 + number, "name": "Passenger"} for number in range(size)]
        loop = parallelize("?who", get("?items"), throttle=10, do=body, into={"?seats": each(get("?seat"))})
        yield f"loop of {size:,}", loop, {"?items": items}


def run(name: str, plan: Any, scope: dict[str, Any]) -> EngineRun:
    """Take one workflow to its end, loading it again for each result as the manager does."""
    parts = CountedParts()
    began = now()
    create(plan, scope, id=_RUN, parts=parts).flush()
    waiting: deque[Task] = deque()
    transitions = 0
    while True:
        workflow = Workflow.load(parts)
        assert workflow is not None
        if waiting:
            assert workflow.succeed(waiting.popleft().id, {"seat": "12A"}).applied
        waiting.extend(workflow.next(_NEXT))
        workflow.flush()
        transitions += 1
        if not waiting:
            break
    used = between(began, now(transitions))
    return EngineRun(
        name, transitions, used.cpu / transitions * 1e6, parts.bytes / transitions, parts.writes / transitions
    )


HEADER = f"{'engine':24} {'transitions':>12} {'CPU µs each':>12} {'bytes each':>11} {'entries each':>13}"


def measure(sizes: Sequence[int], rounds: int) -> Iterator[str]:
    """Yield the lines of the table."""
    for name, plan, scope in plans(sizes):
        repeats = rounds * (20 if len(scope.get("?items", ())) < 1_000 else 1)
        runs = [run(name, plan, scope) for _ in range(repeats)]
        micros = median(one.micros for one in runs)
        one = runs[0]
        yield f"{name:24} {one.transitions:12,} {micros:12.1f} {one.bytes:11.0f} {one.entries:13.2f}"
