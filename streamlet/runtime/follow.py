"""Following: standby copies of stores take in their changelogs as they grow, by the means of restoring."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from attrs import define, field
from confluent_kafka import KafkaError

from streamlet.clients.supplier import Consumer, Message
from streamlet.metrics import Sensor
from streamlet.records import TaskId
from streamlet.runtime.internal_topics import Admin
from streamlet.runtime.places import Place
from streamlet.runtime.restore import Restorer, StoreRestore
from streamlet.runtime.source_rows import SourceRows
from streamlet.state import StoreBuilder, TaskState
from streamlet.time import Clock


@define(eq=False)
class StandbyTask:
    """A task whose stores are kept as a copy.

    Attributes:
        id: Its identity.
        state: Its stores.
        changelogged: Those of them that are kept: on disk, with a changelog.
        topic_ids: Identities of its changelog topics when the copy was begun.
    """

    id: TaskId
    state: TaskState
    changelogged: tuple[StoreBuilder[object], ...]
    topic_ids: Mapping[str, str] = field(factory=dict)

    def source_rows(self) -> Mapping[Place, SourceRows]:
        """Nothing: where such a topic is to be read to is known to the task's owner only."""
        return {}


class Follower(Restorer[StandbyTask]):
    """Restores without end: what comes after the end of a changelog is taken in when it comes.

    It reads as the application does: under exactly-once committed records only, so that a copy is never ahead of what
    was committed. Its position is stored with every batch, and from there a task goes on that becomes active here.

    Args:
        consumer: Outside of the group, told of partitions' ends, failing where an offset does not exist.
        admin: For offsets and identities of topics.
        application_id: Names the changelogs.
        configs: Configs of the changelog topics, for ``delete.retention.ms``.
        clock: Of the application.
        sensor: Told what was taken in.

    Attributes:
        taken: Number of records taken in so far.
    """

    def __init__(
        self,
        consumer: Consumer,
        admin: Admin,
        *,
        application_id: str,
        configs: Mapping[str, Mapping[str, str]],
        clock: Clock,
        sensor: Sensor,
    ) -> None:
        super().__init__(
            consumer,
            admin,
            application_id=application_id,
            configs=configs,
            clock=clock,
            sensor=sensor,
            listener=lambda: None,
        )
        self.taken = 0

    def refresh(self) -> None:
        """Store the positions as of now, where nothing is left to be read: or idle state would count as old.

        Raises:
            LogBusyError: The log did not answer.
        """
        ends = self._admin.offsets_now(self._restores, end=True)
        for place, restore in self._restores.items():
            if restore.begun and restore.settled:
                if restore.next >= ends[place]:
                    restore.based_at = self._clock.wall_ms()
                self._note_position(restore, done=False)

    def remove(self, tasks: Iterable[StandbyTask]) -> None:
        """Stop following tasks, and store how far they are."""
        gone = set(tasks)
        for restore in self._restores.values():
            if restore.task in gone and restore.begun and restore.settled:
                self._note_position(restore, done=False)
        super().remove(gone)

    def _is_complete(self, restore: StoreRestore[StandbyTask]) -> bool:
        return False

    def _is_gone(self, restore: StoreRestore[StandbyTask]) -> bool:
        return False

    def _say_progress(self) -> None:
        """There is no end to be told of."""

    def _took(self, restore: StoreRestore[StandbyTask], records: int) -> None:
        self.taken += records
        self._sensor.on_standby_updated(str(restore.task.id), restore.store, records)

    def _event(self, restore: StoreRestore[StandbyTask] | None, message: Message, error: KafkaError) -> str | None:
        why = super()._event(restore, message, error)
        if why is None and restore is not None and error.code() == KafkaError._PARTITION_EOF:
            restore.based_at = self._clock.wall_ms()
        return why
