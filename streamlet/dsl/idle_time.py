"""Stream time that goes on by the wall clock where no records come (``idle_after``).

A node that closes windows, or lets go of what it has held back for some time, has a clock of its own within its task.
Nodes whose stream time moves with that clock *follow* it: the closing node itself, and in front of suppression the
aggregations that have to drop from then on what the clock has made late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from streamlet.processor.api import PunctuationType
from streamlet.processor.operator import Forward, NodeContext, Operator, Remembered
from streamlet.records import Headers


class IdleTime:
    """The clock of a node, by which stream time goes on once no record has come for a while.

    Once no follower had a record for `after_ms`, the stream time of all of them is what it was at the last record, or
    at the start of the task, plus the wall-clock time since then. It never goes back: a record that is behind it is
    late, whatever the other records say. It is committed like all stream time.

    While record caches may hold changes back for a commit, the clock waits for that commit: a window does not close
    before what was counted in it has arrived.

    Args:
        context: That of the node it belongs to.
        after_ms: How long no record has to come.
    """

    def __init__(self, context: NodeContext, after_ms: int) -> None:
        self._after_ms = after_ms
        self._times: list[Remembered] = []
        self._close: Callable[[], None] = lambda: None
        self._now = context.wall_clock_time
        self._base = -1
        self._since = self._now()
        self._caches = context.cache_budget is not None
        self._committed = True
        self._request_commit = context.request_commit
        context.on_rewind(self._begin)
        context.on_committed(self._settle)
        interval = max(1, context.config.window_emit_interval_ms)
        context.schedule(interval, PunctuationType.WALL_CLOCK_TIME, self._look)

    @classmethod
    def of(cls, context: NodeContext, node: str, after_ms: int) -> IdleTime:
        """Return the clock of a node of this task; the first one that asks makes it."""
        clock: IdleTime = context.shared(f"idle-time/{node}", lambda: cls(context, after_ms))
        return clock

    def closing(self, close: Callable[[], None]) -> None:
        """Have `close` called, with no record at hand, whenever time has gone on."""
        self._close = close

    def follow(self, time: Remembered) -> Callable[[], None]:
        """Have a node's stream time go on with this clock.

        Returns:
            What that node calls with each record, once its stream time includes it.
        """
        self._times.append(time)
        self._base = max(self._base, time.value)
        now = self._now

        def seen() -> None:
            value = time.value
            if value > self._base:
                self._base = value
            self._since = now()
            self._committed = False

        return seen

    def _look(self, now_ms: int) -> None:
        elapsed = now_ms - self._since
        if self._base < 0 or elapsed < self._after_ms:
            return
        if self._caches and not self._committed:
            self._request_commit()
            return
        reached = self._base + elapsed
        for time in self._times:
            if time.value < reached:
                time.value = reached
        self._close()

    def _settle(self) -> None:
        self._committed = True

    def _begin(self) -> None:
        """Begin anew from committed times, after an abort."""
        self._base = max(time.value for time in self._times)
        self._since = self._now()
        self._committed = True


def idle_time(
    context: NodeContext, after_ms: int | None, time: Remembered, close: Callable[[], None]
) -> Callable[[], None] | None:
    """Let a node's own stream time go on by the wall clock.

    Args:
        context: The node's.
        after_ms: How long no record has to come; None: time waits for records.
        time: The node's stream time.
        close: Called, with no record at hand, when time has gone on.

    Returns:
        What to call with each record, once stream time includes it; None if time waits for records.
    """
    if after_ms is None:
        return None
    clock = IdleTime(context, after_ms)
    clock.closing(close)
    return clock.follow(time)


@frozen
class FollowingIdleTime(Operator):
    """Another operator, whose stream time goes on with the clocks of nodes behind it.

    Attributes:
        operator: It remembers its stream time as ``stream-time``.
        clocks: The nodes that the clocks belong to, and their ``idle_after`` (ms).
    """

    operator: Operator
    clocks: tuple[tuple[str, int], ...]

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        process, time = self.operator.compile(context, forward), context.remember("stream-time")
        seen = [IdleTime.of(context, node, after_ms).follow(time) for node, after_ms in self.clocks]

        def observed(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            process(key, value, timestamp, headers)
            if key is not None:  # those without are none of its records: they have no window
                for saw in seen:
                    saw()

        return observed
