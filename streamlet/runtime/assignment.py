"""What the group has given to a thread: tasks, each a partition of the tasks topic (RUNTIME.md, 1).

The callbacks run inside ``consume()``, where an exception would destroy records that were fetched already: they never
raise, they record, and the thread raises after ``consume()`` has returned.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, TopicPartition

from streamlet.records import TaskId
from streamlet.runtime.plan import TaskPlan

_log = logging.getLogger(__name__)


def tasks_of(plan: TaskPlan, partitions: Iterable[int]) -> tuple[dict[int, TaskId], list[int]]:
    """Return the tasks that partitions of the tasks topic stand for, and the partitions that stand for none."""
    tasks: dict[int, TaskId] = {}
    unknown: list[int] = []
    for partition in sorted(partitions):
        task = plan.task(partition)
        if task is None:
            unknown.append(partition)
        else:
            tasks[partition] = task
    return tasks, unknown


def minimal_moves(before: Mapping[str, Iterable[TaskId]], after: Mapping[str, Iterable[TaskId]]) -> tuple[int, int]:
    """Return how many tasks changed hands between two assignments (member to tasks), and how few could have.

    The fewest are those of members that left, and those that members above their fair share have too many.
    """
    owner_before = {task: member for member, tasks in before.items() for task in tasks}
    owner_after = {task: member for member, tasks in after.items() for task in tasks}
    moved = sum(owner_before[task] != owner_after.get(task) for task in owner_before)
    kept = sorted((sum(owner == member for owner in owner_before.values()) for member in after), reverse=True)
    share, extra = divmod(len(owner_after), len(after)) if after else (0, 0)
    stays = sum(min(count, share + (1 if rank < extra else 0)) for rank, count in enumerate(kept))
    return moved, len(owner_before) - stays


class GroupAssignment:
    """Keeps track of the partitions of the tasks topic that a consumer was given.

    Args:
        topic: The tasks topic.
        start: Returns where to begin reading a partition of it.
        release: Called inside ``consume()`` before partitions go: commits and closes their tasks.
        lose: Called inside ``consume()`` after partitions went without warning: drops their tasks.

    Attributes:
        owned: The partitions owned now.
        changes: Counts assignments, also empty ones, so that a thread sees that its first has come.
        error: What a callback would have raised; the first one.
    """

    def __init__(
        self,
        topic: str,
        *,
        start: Callable[[int], int | None],
        release: Callable[[Sequence[int]], None],
        lose: Callable[[Sequence[int]], None],
    ) -> None:
        self._topic = topic
        self._start = start
        self._release = release
        self._lose = lose
        self.owned: set[int] = set()
        self.changes = 0
        self.error: BaseException | None = None

    def on_assign(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """Take partitions on; their tasks are opened by the thread, outside of the callback."""
        try:
            starts = {p.partition: self._start(p.partition) for p in partitions}
            consumer.incremental_assign(
                [
                    TopicPartition(
                        p.topic, p.partition, OFFSET_BEGINNING if (at := starts[p.partition]) is None else at
                    )
                    for p in partitions
                ]
            )
            self.owned.update(p.partition for p in partitions)
        except BaseException as error:
            self._record(error)
        self.changes += 1

    def on_revoke(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """Commit and give back."""
        self._give_up(consumer, partitions, self._release)

    def on_lost(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        """Drop: somebody else may own them already."""
        self._give_up(consumer, partitions, self._lose)

    def _give_up(self, consumer: Any, partitions: list[TopicPartition], what: Callable[[Sequence[int]], None]) -> None:
        numbers = [p.partition for p in partitions]
        self.owned.difference_update(numbers)
        try:
            what(numbers)
        except BaseException as error:
            self._record(error)
        try:
            consumer.incremental_unassign(partitions)
        except BaseException as error:
            self._record(error)
        self.changes += 1

    def _record(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
        else:
            _log.error("a second error in a rebalance", exc_info=error)

    def raise_recorded(self) -> None:
        """Raise what a callback recorded."""
        if self.error is not None:
            error, self.error = self.error, None
            raise error
