"""Restoring: state catches up with its changelogs, in bounded batches, while other tasks go on (RUNTIME.md, 4)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Generic, Protocol, TypeVar

from attrs import define
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streamlet.clients.supplier import Consumer, Message
from streamlet.errors import StateStoreError, StreamsError
from streamlet.metrics import Sensor
from streamlet.records import TaskId
from streamlet.runtime.failures import error_of, is_busy
from streamlet.runtime.internal_topics import Admin, LogBusyError
from streamlet.runtime.places import Place
from streamlet.runtime.source_rows import SourceRows
from streamlet.state import ChangelogRecord, Position, StoreBuilder, TaskState, record_checksum
from streamlet.time import Clock
from streamlet.topology import changelog_name

_log = logging.getLogger(__name__)

BATCH = 2_000
_PROGRESS_SECONDS = 10.0
# How long nothing may come after the last stable offset has passed the target, before the rest counts as compacted
# away.
_GONE_SECONDS = 5.0
_LOOK_SECONDS = 0.5
_DEFAULT_DELETE_RETENTION_MS = 86_400_000

_GONE = "the record that would tell whether this is the log that the state was made from was compacted away"

_REBUILD = frozenset(
    {
        KafkaError._AUTO_OFFSET_RESET,
        KafkaError.OFFSET_OUT_OF_RANGE,
        KafkaError._LOG_TRUNCATION,
        KafkaError.UNKNOWN_LEADER_EPOCH,
    }
)


def delete_retention_ms(configs: Mapping[str, str]) -> int:
    """Return how long a compacted topic keeps a deletion (ms): what was read longer ago may lack some."""
    return int(configs.get("delete.retention.ms") or _DEFAULT_DELETE_RETENTION_MS)


class StateRestoreListener(Protocol):
    """Told how restoring goes, from the stream threads; must not block."""

    def on_restore_start(
        self, topic: str, partition: int, store: str, starting_offset: int, ending_offset: int
    ) -> None:
        """A store begins to catch up, from and to these offsets of its changelog."""

    def on_batch_restored(self, topic: str, partition: int, store: str, batch_end_offset: int, restored: int) -> None:
        """`restored` more records are in the store; the next one has at least the offset `batch_end_offset`."""

    def on_restore_end(self, topic: str, partition: int, store: str, total_restored: int) -> None:
        """The store has caught up."""

    def on_restore_suspended(self, topic: str, partition: int, store: str, total_restored: int) -> None:
        """The task went elsewhere before the store had caught up."""


class Restorable(Protocol):
    """A task as far as restoring is concerned."""

    def source_rows(self) -> Mapping[Place, SourceRows]:
        """Return what reads the source partitions that serve it as changelogs."""

    @property
    def id(self) -> TaskId:
        """Its identity."""

    @property
    def state(self) -> TaskState:
        """Its stores."""

    @property
    def changelogged(self) -> Sequence[StoreBuilder[Any]]:
        """Those that are restored from changelogs."""

    topic_ids: Mapping[str, str]


T = TypeVar("T", bound=Restorable)


@define(eq=False)
class StoreRestore(Generic[T]):
    """One store on its way.

    Attributes:
        next: The next offset to be read.
        target: The offset to be reached.
        based_at: Wall clock (ms) of the state that is continued: until the end is reached it can be no younger.
        quiet_since: Since when nothing has come although the last stable offset is beyond the target; None: not so.
        proven: Whether the log is the one that the position was taken in, not one that was truncated below it.
        rows: Reads the records, if the changelog is the topic that a table is read from. Then `target` is no more than
            where the task goes on with that topic: what lies behind is processed, not restored.
        checksum: Of the record before `next`, if it is known. If no epoch is, it is what proves the log.
        unfinished: How far a write reached that was cut off, as long as the log has not shown that it still has that.
        begun: Whether it is being read; not while a store that begins anew has yet to learn where the log begins.
    """

    task: T
    store: str
    place: Place
    next: int
    epoch: int | None
    target: int
    based_at: int
    begin: int
    total: int = 0
    quiet_since: float | None = None
    look_at: float = 0.0
    at_end: bool = False
    proven: bool = True
    rows: SourceRows | None = None
    checksum: int | None = None
    unfinished: Position | None = None
    begun: bool = True

    @property
    def looks_back(self) -> bool:
        """Whether the record before `next` has yet to prove the log."""
        return not self.proven and self.epoch is None and self.checksum is not None

    @property
    def settled(self) -> bool:
        """Whether the log is known to be the one that the state was made from."""
        return self.proven and self.unfinished is None

    @property
    def reached(self) -> bool:
        """Whether everything is there."""
        return self.begun and self.settled and self.next >= self.target


class Restorer(Generic[T]):
    """Restores the stores of a thread's tasks with a consumer of its own.

    Args:
        consumer: Outside of the group, told of partitions' ends, failing where an offset does not exist.
        admin: For the targets.
        application_id: Names the changelogs.
        configs: Configs of the changelog topics, for ``delete.retention.ms``.
        clock: Of the application.
        sensor: Told what was restored.
        listener: Returns the listener of now.
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
        listener: Callable[[], StateRestoreListener | None],
    ) -> None:
        self._consumer = consumer
        self._admin = admin
        self._application_id = application_id
        self._configs = configs
        self._clock = clock
        self._sensor = sensor
        self._listener = listener
        self._restores: dict[Place, StoreRestore[T]] = {}
        self._said_at = clock.monotonic()

    @property
    def active(self) -> bool:
        """Whether anything is being restored."""
        return bool(self._restores)

    def progress(self) -> dict[str, tuple[int, int, int]]:
        """Return for each store on its way (``topic[partition]``): where it began, where it is, where it will end."""
        return {f"{r.place[0]}[{r.place[1]}]": (r.begin, r.next, r.target) for r in list(self._restores.values())}

    def start(self, tasks: Sequence[T]) -> list[T]:
        """Begin with tasks whose committed offsets were fetched before; return those with nothing to catch up with.

        Raises:
            StreamsError: The log did not answer.
        """
        places = {
            (changelog_name(self._application_id, store.name), task.id.partition): (task, store.name)
            for task in tasks
            for store in task.changelogged
        }
        rows: dict[Place, SourceRows] = {}
        for task in tasks:
            for place, of in task.source_rows().items():
                rows[place] = of
                places[place] = (task, of.store)
        # Asked each time: offsets and epochs look alike in a topic that was deleted and made again.
        topic_ids = self._topic_ids(dict.fromkeys(topic for topic, _ in places))
        for task in tasks:
            task.topic_ids = topic_ids
        # The end that uncommitted records have: a predecessor's transaction may be decided, but not yet marked as such.
        ends = self._admin.ends_now(places)
        begins = self._admin.offsets_now(places, end=False)
        for place, (task, store) in places.items():
            end, epoch = ends[place]
            if place in rows:
                end = min(end, rows[place].task.resume[place].offset)
                epoch = None  # it is that of the log's end
            restore = self._plan(place, task, store, begins[place], end)
            # Truncated and grown to the same end again, the log differs in its epoch only: then the consumer finds out.
            # If none is known, the record before the position tells.
            if restore.epoch is None:
                restore.proven = restore.checksum is None
            else:
                restore.proven = epoch is None or restore.epoch == epoch
            restore.rows = rows.get(place)
            if self._is_complete(restore):
                self._note_position(restore, done=True)
            else:
                self._begin(restore)
        busy = {restore.task for restore in self._restores.values()}
        return [task for task in tasks if task not in busy]

    def _topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        try:
            return self._admin.topic_ids(topics)
        except StreamsError as error:  # of a topic that is new not every broker knows yet
            raise LogBusyError(str(error)) from error

    def _plan(self, place: Place, task: T, store: str, begin: int, end: int) -> StoreRestore[T]:
        now = self._clock.wall_ms()
        position = task.state.position(store)
        unfinished = task.state.unfinished(store)
        # At 0, parts of a restore that was cut off may be there, of a log that has been truncated since.
        if position is not None and position.offset > 0:
            why = self._unfit(position, task, place, begin, end, now)
            if unfinished is not None and unfinished.offset <= position.offset:
                unfinished = None  # written since by another attempt
            if why is None and unfinished is not None:
                why = self._unfit(unfinished, task, place, begin, end, now)
            if why is None:
                return StoreRestore(
                    task,
                    store,
                    place,
                    position.offset,
                    position.leader_epoch,
                    end,
                    position.committed_at,
                    position.offset,
                    checksum=position.checksum,
                    unfinished=unfinished,
                )
            _log.warning("store %s of task %s is rebuilt from the beginning of %s: %s", store, task.id, place[0], why)
        task.state.wipe(store)
        return StoreRestore(task, store, place, begin, None, end, now, begin)

    def _unfit(self, position: Position, task: T, place: Place, begin: int, end: int, now: int) -> str | None:
        topic_id = task.topic_ids.get(place[0])
        if position.topic_id is not None and topic_id is not None and position.topic_id != topic_id:
            return "the topic was deleted and made again"
        if position.offset > end:
            return f"the topic ends at {end}, before the state's position {position.offset}: it was truncated"
        if position.offset < begin:
            return f"the topic begins at {begin}, after the state's position {position.offset}: records are gone"
        retention = delete_retention_ms(self._configs.get(place[0], {}))
        # the last record that was read may not be the last there is: with nothing left to read, age does not matter
        if position.offset < end and now - position.committed_at > retention:
            return f"the state is older than the topic's delete.retention.ms ({retention}): deletions may be gone"
        return None

    def _begin(self, restore: StoreRestore[T]) -> None:
        self._restores[restore.place] = restore
        self._consumer.incremental_assign([_start(restore)])
        _log.info(
            "restoring store %s of task %s from %s[%d], offsets %d to %d",
            restore.store, restore.task.id, *restore.place, restore.next, restore.target,
        )  # fmt: skip
        listener = self._listener()
        if listener is not None:
            listener.on_restore_start(*restore.place, restore.store, restore.next, restore.target)

    def step(self, timeout: float) -> list[T]:
        """Take in up to one batch; return the tasks that have caught up with it.

        Args:
            timeout: Seconds to wait if there is nothing yet.

        Raises:
            StateStoreError: A changelog cannot be read.
        """
        messages = self._consumer.consume(BATCH, 0)
        if not messages and timeout > 0:
            messages = self._consumer.consume(1, timeout)
        waiting = dict.fromkeys(restore.task for restore in self._restores.values())
        anew: set[Place | None] = set()  # begun again: what was fetched of these before belongs to nothing any more
        for place, run in groupby(messages, key=_place):
            if place not in anew and self._take(place, list(run)):
                anew.add(place)
        self._begin_anew()
        for restore in list(self._restores.values()):
            if self._is_complete(restore):
                self._end(restore)
            elif self._is_gone(restore):
                if restore.settled:
                    self._end(restore)
                else:
                    self._rebuild(restore, "what the state was made from was compacted away")
        self._say_progress()
        busy = {restore.task for restore in self._restores.values()}
        return [task for task in waiting if task not in busy]

    def _take(self, place: Place | None, messages: Sequence[Message]) -> bool:
        """Take in messages of one partition; return whether the store begins anew instead."""
        restore = None if place is None else self._restores.get(place)
        records: list[ChangelogRecord] = []
        last: Message | None = None
        for message in messages:
            error = message.error()
            why = None
            if error is not None:
                why = self._event(restore, message, error)
            elif restore is not None:
                offset = message.offset() or 0
                if not restore.settled:
                    why = _contradiction(restore, message, offset)
                if why is None and offset >= restore.next:
                    if restore.rows is not None:
                        if offset < restore.target and (record := restore.rows.record(message)) is not None:
                            records.append(record)
                        offset = min(offset, restore.target - 1)
                    elif (key := message.key()) is not None:  # one without a key is nobody's change: others wrote it
                        records.append(ChangelogRecord(key, message.value(), message.timestamp()[1]))
                    restore.proven = True
                    restore.next = offset + 1
                    restore.epoch = message.leader_epoch()
                    last = message
            if why is not None and restore is not None:
                self._rebuild(restore, why)
                return True
        if restore is not None and last is not None and last.offset() == restore.next - 1:
            restore.checksum = None if restore.rows is not None else _checksum(last)
        if restore is None or not records:
            return False
        restore.quiet_since = None
        restore.at_end = False
        restore.total += len(records)
        restore.task.state.restore(restore.store, records, self._position(restore, done=False))
        self._took(restore, len(records))
        return False

    def _took(self, restore: StoreRestore[T], records: int) -> None:
        self._sensor.on_restored(str(restore.task.id), restore.store, records)
        listener = self._listener()
        if listener is not None:
            listener.on_batch_restored(*restore.place, restore.store, restore.next, records)

    def _is_complete(self, restore: StoreRestore[T]) -> bool:
        return restore.reached

    def _event(self, restore: StoreRestore[T] | None, message: Message, error: KafkaError) -> str | None:
        """Return why the store has to begin anew, or None."""
        if error.code() == KafkaError._PARTITION_EOF:
            if restore is not None:
                at = message.offset() or 0
                return _at_end(restore, at if restore.rows is None else min(at, restore.target))
        elif error.code() in _REBUILD:
            return error.str()
        elif is_busy(error) or (restore is None and not error.fatal() and error.code() != KafkaError._FATAL):
            # what concerns no partition is about a broker, or about one that has been given up since
            _log.info("restoring waits: %s: %s", error.name(), error.str())
        else:
            where = "" if restore is None else f" of store {restore.store}, task {restore.task.id}"
            raise StateStoreError(f"the changelog{where} cannot be read: {error.name()}: {error.str()}")
        return None

    def _rebuild(self, restore: StoreRestore[T], why: str) -> None:
        _log.warning(
            "store %s of task %s is rebuilt from the beginning of %s: %s",
            restore.store, restore.task.id, restore.place[0], why,
        )  # fmt: skip
        restore.task.state.wipe(restore.store)
        self._consumer.incremental_unassign([TopicPartition(*restore.place)])
        restore.begun = False
        restore.epoch = None
        restore.checksum = None
        restore.unfinished = None
        restore.proven = True
        restore.at_end = False
        restore.quiet_since = None

    def _begin_anew(self) -> None:
        """Place the stores that were emptied; the log may be busy: then it is asked again with the next step."""
        places = {place: restore for place, restore in self._restores.items() if not restore.begun}
        if not places:
            return
        try:
            ends = self._admin.ends_now(places)
            begins = self._admin.offsets_now(places, end=False)
        except LogBusyError as error:
            _log.info("restoring waits: %s", error)
            return
        for place, restore in places.items():
            restore.next, (restore.target, _) = begins[place], ends[place]
            if restore.rows is not None:
                restore.target = min(restore.target, restore.rows.task.resume[place].offset)
            restore.based_at = self._clock.wall_ms()
            restore.begun = True
            self._consumer.incremental_assign([_start(restore)])

    def _is_gone(self, restore: StoreRestore[T]) -> bool:
        """Tell whether the rest up to the target no longer exists.

        Compaction may remove the records, and the control records, before the target: then nothing ever reaches it. If
        the last stable offset has passed the target, and another look from here yields nothing for five seconds, that
        is so.
        """
        now = self._clock.monotonic()
        if not restore.at_end or now < restore.look_at:
            return False
        restore.look_at = now + _LOOK_SECONDS
        if restore.quiet_since is not None:
            if now - restore.quiet_since < _GONE_SECONDS:
                return False
            _log.info(
                "%s[%d] ends at %d, before the target %d: the rest was compacted away",
                *restore.place,
                restore.next,
                restore.target,
            )
            return True
        try:
            _, stable = self._consumer.get_watermark_offsets(TopicPartition(*restore.place), timeout=5.0)
        except KafkaException as error:
            _log.info("restoring waits: %s", error_of(error).str())
            return False
        if stable >= restore.target:
            restore.quiet_since = now
            partition = TopicPartition(*restore.place)
            self._consumer.incremental_unassign([partition])
            self._consumer.incremental_assign([_start(restore)])
        return False

    def _position(self, restore: StoreRestore[T], *, done: bool) -> Position:
        at = self._clock.wall_ms() if done else restore.based_at
        topic_id = restore.task.topic_ids.get(restore.place[0])
        return Position(restore.next, restore.epoch, topic_id, at, restore.checksum)

    def _note_position(self, restore: StoreRestore[T], *, done: bool) -> None:
        restore.task.state.restore(restore.store, (), self._position(restore, done=done))

    def _end(self, restore: StoreRestore[T]) -> None:
        self._drop(restore)
        self._note_position(restore, done=True)
        _log.info(
            "restored store %s of task %s: %d records from %s[%d]",
            restore.store, restore.task.id, restore.total, *restore.place,
        )  # fmt: skip
        listener = self._listener()
        if listener is not None:
            listener.on_restore_end(*restore.place, restore.store, restore.total)

    def remove(self, tasks: Iterable[T]) -> None:
        """Stop restoring tasks that go elsewhere."""
        gone = set(tasks)
        for restore in [restore for restore in self._restores.values() if restore.task in gone]:
            self._drop(restore)
            listener = self._listener()
            if listener is not None:
                listener.on_restore_suspended(*restore.place, restore.store, restore.total)

    def _drop(self, restore: StoreRestore[T]) -> None:
        del self._restores[restore.place]
        if not restore.begun:
            return
        self._consumer.incremental_unassign([TopicPartition(*restore.place)])

    def _say_progress(self) -> None:
        now = self._clock.monotonic()
        if self._restores and now - self._said_at > _PROGRESS_SECONDS:
            self._said_at = now
            left = sum(r.target - r.next for r in self._restores.values())
            _log.info("restoring %d stores, about %d records to go", len(self._restores), left)

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


def _at_end(restore: StoreRestore[Any], offset: int) -> str | None:
    """Take note of a partition's end; return why the store has to begin anew, or None."""
    restore.at_end = True
    if restore.looks_back:  # before the position, what it was made from is decided but not marked yet
        return _GONE if offset >= restore.next else None
    if restore.unfinished is not None and offset >= restore.unfinished.offset:
        return _GONE
    if offset > restore.next:
        restore.next, restore.checksum = offset, None
    restore.proven = True
    return None


def _contradiction(restore: StoreRestore[Any], message: Message, offset: int) -> str | None:
    """Let a record prove the log; return why it does not, or None."""
    if restore.looks_back and offset >= restore.next - 1:
        if offset >= restore.next:
            return _GONE
        if _checksum(message) != restore.checksum:
            return f"offset {offset} has another record than the state was made from: the topic was truncated"
        restore.proven = True
        restore.epoch = message.leader_epoch()
    unfinished = restore.unfinished
    if unfinished is not None and offset >= unfinished.offset - 1:
        if unfinished.leader_epoch is not None and message.leader_epoch() == unfinished.leader_epoch:
            restore.unfinished = None  # what an epoch has at and behind an offset has one past
        elif offset >= unfinished.offset:
            return _GONE
        elif _checksum(message) != unfinished.checksum:
            return f"a write was cut off, and the topic was truncated since, before {unfinished.offset}"
        else:
            restore.unfinished = None
    return None


def _checksum(message: Message) -> int:
    return record_checksum(message.key(), message.value(), message.timestamp()[1])


def _start(restore: StoreRestore[Any]) -> TopicPartition:
    if restore.looks_back:
        return TopicPartition(*restore.place, restore.next - 1)
    if restore.epoch is None or restore.epoch < 0:
        return TopicPartition(*restore.place, restore.next)
    return TopicPartition(*restore.place, restore.next, leader_epoch=restore.epoch)


def _place(message: Any) -> Place | None:
    topic, partition = message.topic(), message.partition()
    return None if topic is None or partition is None else (topic, partition)
