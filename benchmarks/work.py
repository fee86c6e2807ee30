"""What the contestants have to do."""

from __future__ import annotations

from typing import Any

from attrs import frozen

WINDOW_MS = 10_000
JOIN_MS = 2_000
AT_LEAST_ONCE_COMMIT_MS = 1_000  # for both contestants; streamlet's default, 30 s, would spare it commits
EXACTLY_ONCE_COMMIT_MS = 100  # streamlet's default


_STORES = {"count": ("counts",), "windows": ("counts",), "streams": ("paid", "open"), "tables": ("paid", "open")}


def changelogs(kind: str, application: str) -> tuple[str, ...]:
    """Return the names of the changelogs that a hand-written loop has, one per store; streamlet makes its own."""
    return tuple(f"{application}-{store}-changelog" for store in _STORES.get(kind, ()))


@frozen
class Job:
    """One measurement.

    Attributes:
        kind: ``stateless``, ``count``, ``windows``, ``streams``, ``tables``; ``threads`` or ``coroutines``: a value of
            each order by `map_values_async`; ``tasks``: the task worker.
        servers: Address of the log.
        exactly_once: The guarantee; otherwise at least once.
        application: Name of the application: group, transactional id, prefix of its topics.
        input: Topic to be read, of one partition.
        output: Topic for the results.
        records: How many the input has.
        emits: Whether counts are sent on.
        buffers: Whether the hand-written loop holds changes back until the commit, as streamlet does, or writes each
            update to its state and changelog, as most are written.
        commit_ms: Commit interval.
    """

    kind: str
    servers: str
    exactly_once: bool
    application: str
    input: str
    output: str
    records: int
    emits: bool
    buffers: bool
    commit_ms: int


@frozen
class Work:
    """A kind of job.

    Attributes:
        name: How it is called in the table.
        kind: See `Job`.
        keys: How many different ones there are.
        target: The least ratio to the hand-written loop that is to be reached; None: none was set.
        emits: See `Job`.
        buffers: See `Job`.
        longer: So many times the records of the others, as the first fetches weigh in with few.
        only: The one log it is for; None: each.
        input: What is read: ``orders``, or ``tasks`` as a workflow manager sends them.
    """

    name: str
    kind: str
    keys: int
    target: float | None
    emits: bool = True
    buffers: bool = False
    longer: int = 1
    only: str | None = None
    input: str = "orders"

    def job(self, servers: str, *, application: str, input: str, output: str, exactly_once: bool, records: int) -> Job:
        """Return one to be done."""
        commit_ms = EXACTLY_ONCE_COMMIT_MS if exactly_once else AT_LEAST_ONCE_COMMIT_MS
        return Job(
            self.kind, servers, exactly_once, application, input, output, records, self.emits, self.buffers, commit_ms
        )


WORKS = (
    Work("stateless", "stateless", 1_000, 0.70),
    Work("stateless, longer", "stateless", 1_000, 0.70, longer=5, only="kafka"),
    Work("count, 1 k keys", "count", 1_000, 0.60, emits=False),
    Work("count, 100 k keys", "count", 100_000, 0.60, emits=False),
    Work("count, 1 k keys, by hand buffered", "count", 1_000, None, emits=False, buffers=True),
    Work("count, 100 k keys, by hand buffered", "count", 100_000, None, emits=False, buffers=True),
    Work("count, 1 k keys, emitted", "count", 1_000, 0.60),
    Work("windowed count, 1 k keys, emitted", "windows", 1_000, 0.60),
    Work("stream-stream join, 1 k keys", "streams", 1_000, None),
    Work("table-table join, 1 k keys", "tables", 1_000, None),
    Work("map_values_async, a function", "threads", 1_000, None),
    Work("map_values_async, a coroutine", "coroutines", 1_000, None),
    Work("worker, tasks that end at once", "tasks", 1_000, None, input="tasks"),
)


def net_of(order: Any) -> dict[str, Any]:
    """What is made of an order by `map_values_async`: done at once, so that all the cost is the way there and back."""
    return {"customer": order["customer"], "net": order["amount"] / 1.19}
