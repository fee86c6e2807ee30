"""A commit: one object, five numbered steps (RUNTIME.md, 3).

RocksDB comes last, with the positions that the log has reported, so that no store is ever ahead of what the log has
committed: after a crash between any two steps, restoring goes on from the stored positions.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from streamlet.clients.supplier import Consumer
from streamlet.runtime.active import ActiveTask, topic_partitions
from streamlet.runtime.hooks import FaultPoint, Hooks
from streamlet.runtime.outputs import Outputs
from streamlet.runtime.places import Place
from streamlet.runtime.queue import TaskOffset
from streamlet.state import Position
from streamlet.time import Clock
from streamlet.topology import changelog_name


class Commit:
    """One commit of a thread's tasks.

    Args:
        tasks: Those that are to be committed.
        outputs: The thread's producers.
        consumer: The member of the group on whose behalf offsets are committed.
        application_id: Names the changelog topics.
        clock: Of the application.
        hooks: Fault points of tests.
        refresh: Commit also where nothing happened: all offsets again, so that they do not expire, and all positions,
            so that the state does not count as old.
    """

    def __init__(
        self,
        tasks: Sequence[ActiveTask],
        outputs: Outputs,
        consumer: Consumer,
        *,
        application_id: str,
        clock: Clock,
        hooks: Hooks,
        refresh: bool = False,
    ) -> None:
        self._refresh = refresh
        self._tasks = tasks
        self._outputs = outputs
        self._consumer = consumer
        self._application_id = application_id
        self._clock = clock
        self._hooks = hooks
        self._offsets: dict[ActiveTask, dict[Place, TaskOffset]] = {}
        self._changed: dict[ActiveTask, list[tuple[str, Place]]] = {}

    def run(self) -> None:
        """Run the steps.

        Raises:
            LogRefusalError: The log refused; `remedy` says what to do. No store has taken anything.
            SerializationError: A store's value has no bytes; nothing is committed.
            ControlError: What user code raised while nodes sent on what they had held back.
        """
        self._outputs.begin()
        self._1_let_nodes_send_on()
        self._2_write_changelogs()
        self._hooks.reached(FaultPoint.AFTER_CHANGELOGS)
        self._3_commit_the_log()
        self._hooks.reached(FaultPoint.AFTER_COMMIT)
        self._4_write_the_stores()
        self._hooks.reached(FaultPoint.AFTER_STORES)
        self._5_take_note()

    def _1_let_nodes_send_on(self) -> None:
        for task in self._tasks:
            task.task.prepare_commit()

    def _2_write_changelogs(self) -> None:
        for task in self._tasks:
            written: list[tuple[str, Place]] = []
            for store, records in task.state.changes():
                place = (changelog_name(self._application_id, store), task.id.partition)
                if records:
                    self._outputs.send_changelog(*place, records)
                    written.append((store, place))
            self._changed[task] = written

    def _3_commit_the_log(self) -> None:
        self._offsets = {task: task.offsets(everything=self._refresh) for task in self._tasks}
        offsets = topic_partitions(item for of_task in self._offsets.values() for item in of_task.items())
        self._outputs.prepare(offsets, self._consumer)
        self._hooks.reached(FaultPoint.BEFORE_COMMIT)
        self._outputs.finish(offsets, self._consumer)

    def _4_write_the_stores(self) -> None:
        now = self._clock.wall_ms()
        for number, task in enumerate(self._tasks):
            if number:
                self._hooks.reached(FaultPoint.BETWEEN_STORES)
            positions = self._refreshed(task, now) if self._refresh else {}
            for store, place in self._changed[task]:
                end = self._outputs.delivered[place]
                topic_id = task.topic_ids.get(place[0])
                positions[store] = Position(end.offset + 1, end.leader_epoch, topic_id, now, end.checksum)
            positions |= self._read_from_sources(task, now)
            task.state.commit(positions)

    def _refreshed(self, task: ActiveTask, now: int) -> dict[str, Position]:
        """Return the positions that a task has, as of now: nobody else has written to its changelogs."""
        positions: dict[str, Position] = {}
        for store in task.sub_topology.stores:
            position = task.state.position(store.name) if store.logging else None
            if position is not None:
                positions[store.name] = evolve(position, committed_at=now)
        return positions

    def _read_from_sources(self, task: ActiveTask, now: int) -> dict[str, Position]:
        """Return the positions of stores whose changelog is a source topic: what is committed there is in them."""
        positions: dict[str, Position] = {}
        for store in task.sub_topology.stores:
            if store.source_topic is not None:
                at = self._offsets[task].get((store.source_topic, task.id.partition))
                if at is not None:
                    topic_id = task.topic_ids.get(store.source_topic)
                    positions[store.name] = Position(at.offset, at.leader_epoch, topic_id, now)
        return positions

    def _5_take_note(self) -> None:
        self._outputs.delivered.clear()
        for task in self._tasks:
            task.committed(self._offsets[task])
            task.task.committed()
