"""A stream thread: polls, lets its tasks process, commits; and does what the log's refusals ask for."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streamlet.clients.supplier import Consumer, Message
from streamlet.errors import ControlError, SerializationError, StreamsError
from streamlet.records import TaskId
from streamlet.runtime import settings
from streamlet.runtime.active import ActiveTask, Resume
from streamlet.runtime.assignment import GroupAssignment
from streamlet.runtime.careful import CarefulMode
from streamlet.runtime.commit import Commit
from streamlet.runtime.context import AppContext
from streamlet.runtime.failures import InstanceHeldError, LogRefusalError, Remedy, has_cause, is_busy, is_membership
from streamlet.runtime.in_flight import without_in_flight
from streamlet.runtime.lifecycle import ThreadState
from streamlet.runtime.members import member_client_id
from streamlet.runtime.outputs import Outputs
from streamlet.runtime.pace import BATCH, CommitClock, Slice
from streamlet.runtime.places import Place
from streamlet.runtime.plan import PLAN_KEY, SHUTDOWN_KEY
from streamlet.runtime.purge import RepartitionPurge
from streamlet.runtime.restore import Restorer
from streamlet.runtime.task_set import TaskSet

_log = logging.getLogger(__name__)

_IDLE_LOOK_SECONDS = 0.01
_IN_FLIGHT_LOOK_SECONDS = 0.005  # a result wakes the thread at once, a record on the log does not
_RESTORE_WAIT_SECONDS = 0.02
_LATER_SECONDS = 0.05
_METADATA_SECONDS = 5.0
_FIRST_BACKOFF_SECONDS = 0.02
_LONGEST_BACKOFF_SECONDS = 1.0
_JOIN_AGAIN_SECONDS = 1.0
_ALMOST = 0.9  # the client measures the time between two polls itself
# Offsets of topics that the group is not subscribed to expire (KIP-211), and the age of local state decides whether its
# changelog can be continued: both are refreshed while there is nothing to do.
_REFRESH_SECONDS = 3_600.0


# The consumer goes on asking, and would never be given a task.
_FORBIDDEN = frozenset(
    {
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)


class StreamThread:
    """One thread of an application: a consumer, producers, and the tasks the group assigns to it.

    Args:
        app: The application.
        index: Its number, from 1 on.
        changed: Called when its state changes.
        died: Called by the thread itself when it has ended with an error.
    """

    def __init__(
        self,
        app: AppContext,
        index: int,
        *,
        changed: Callable[[StreamThread], None],
        died: Callable[[StreamThread, BaseException], None],
    ) -> None:
        self.index = index
        self.name = f"{app.client_id}-StreamThread-{index}"
        self.state = ThreadState.CREATED
        self.task_ids: tuple[TaskId, ...] = ()
        self._app = app
        self._changed = changed
        self._died = died
        self._stop = threading.Event()
        # Not a daemon: one that is inside RocksDB when the interpreter exits would abort the process.
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=False)
        self._slice = Slice(app.config)
        self._idle = False
        self._drained = False
        self._failing_since: float | None = None
        self._held_since: float | None = None
        self._polled_at: float | None = None
        self._longest_away = 0.0
        self._too_slow_for: float | None = None
        self._refused_up_to: dict[Place, int] = {}
        self._backoff = 0.0
        self._paused = False
        self._relaid: Any = app.layout

    # --- from other threads -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start."""
        self._thread.start()

    def stop(self) -> None:
        """Ask it to commit, close and leave the group; `join` waits for that."""
        self._stop.set()

    def join(self, timeout: float | None) -> bool:
        """Wait for the end; False after the timeout (seconds), and at once within the thread itself."""
        if self._thread is threading.current_thread():
            return False
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    @property
    def tasks(self) -> tuple[ActiveTask, ...]:
        """Its tasks, for queries; they may be gone a moment later."""
        return self._set.all if self.state in _WORKING else ()

    def restore_progress(self) -> dict[str, tuple[int, int, int]]:
        """Return how far the stores on their way are."""
        return self._restorer.progress() if self.state in _WORKING else {}

    # --- life -------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        failure: BaseException | None = None
        unanswered: LogRefusalError | None = None
        try:
            self._to(ThreadState.STARTING)
            self._open()
            while not self._stop.is_set():
                try:
                    self._turn()
                except InstanceHeldError as held:
                    self._join_again(held)
        except LogRefusalError as refused:
            if self._stop.is_set() and refused.remedy is Remedy.REPEAT:
                unanswered = refused
                _log.warning(
                    "%s ends without a last commit, a restart repeats from the one before: %s", self.name, refused
                )
            else:
                failure = self._given_up(refused)
        except BaseException as error:
            failure = error
        self._to(ThreadState.PENDING_SHUTDOWN)
        try:
            self._close(failure or unanswered)
        except BaseException as error:
            if failure is None:
                failure = error
            else:
                _log.error("%s: closing after a failure failed as well", self.name, exc_info=error)
        self._to(ThreadState.DEAD)
        if failure is not None:
            self._died(self, failure)

    def _join_again(self, held: InstanceHeldError) -> None:
        """Build the clients anew, as a consumer that was refused once stays refused.

        The broker gives a static member that was killed up after its session timeout.

        Raises:
            StreamsError: It did not within ``task.timeout.ms``.
        """
        now = self._app.clock.monotonic()
        if self._held_since is None:
            self._held_since = now
        if now - self._held_since > self._app.task_timeout:
            raise StreamsError(
                f"{held}, for {now - self._held_since:.0f} s (task.timeout.ms): give each instance its own"
            ) from held
        _log.warning("%s: %s; tried again until it has left the group, or its session has ended", self.name, held)
        self._close(None)
        if not self._stop.wait(_JOIN_AGAIN_SECONDS):
            self._open()

    def _given_up(self, refused: LogRefusalError) -> StreamsError:
        """Return what to end with after a refusal that nothing more can be done about."""
        hint = f" within {self._app.task_timeout:g} s (task.timeout.ms)" if refused.remedy is Remedy.REPEAT else ""
        error = StreamsError(f"{self.name} made no progress{hint}: {refused}")
        error.__cause__ = refused
        return error

    def _to(self, state: ThreadState) -> None:
        if self.state is not state:
            self.state = state
            self._changed(self)

    def _open(self) -> None:
        app, config = self._app, self._app.config
        self._closers: list[Callable[[bool], None]] = []
        self._outputs: Outputs = app.outputs(self.index, self.name, self._stop.is_set)
        self._closers.append(lambda clean: self._outputs.close(clean=clean))
        stores = [store for part in app.sub_topologies.values() for store in part.stores]
        isolation = settings.restore_isolation(config, sources=any(store.source_topic for store in stores))
        reader = settings.reader(config, f"{self.name}-restore-consumer", "restore.consumer", isolation_level=isolation)
        restore_consumer = app.supplier.consumer(reader)
        self._restorer: Restorer[ActiveTask] = Restorer(
            restore_consumer,
            app.admin,
            application_id=config.application_id,
            configs=app.changelog_configs,
            clock=app.clock,
            sensor=app.sensor,
            listener=lambda: app.restore_listener,
        )
        self._closers.append(lambda _: self._restorer.close())
        several = any(len(topics) > 1 for topics in app.layout.sources.values())
        main = settings.main_consumer(
            config,
            member_client_id(self.name, config.application_server),
            self.index,
            ends=several and config.max_task_idle_ms >= 0,
        )
        self._consumer: Consumer = app.supplier.consumer(main)
        self._closers.append(lambda _: self._consumer.close())
        self._learn_leaders()
        self._set = TaskSet(app, self._consumer, self._outputs, self._restorer)
        self._careful = CarefulMode(app, self._set, self._outputs, self._consumer)
        self._purge = RepartitionPurge(app)
        self._assignment = GroupAssignment(
            app.tasks_topic, start=app.starts.get, release=self._release, lose=self._lose
        )
        self._seen_changes = 0
        self._clock = CommitClock(config, app.clock.monotonic())
        self._refreshed_at = app.clock.monotonic()
        self._consumer.subscribe(
            [app.tasks_topic],
            on_assign=self._assignment.on_assign,
            on_revoke=self._assignment.on_revoke,
            on_lost=self._assignment.on_lost,
        )

    def _learn_leaders(self) -> None:
        """Have the consumer know the leaders of the topics that it will read.

        It is not subscribed to them, and would find out only a second after they are assigned.
        """
        for topic in sorted({topic for topics in self._app.layout.sources.values() for topic in topics}):
            try:
                self._consumer.list_topics(topic, timeout=_METADATA_SECONDS)
            except KafkaException as error:
                _log.info("%s: no metadata of %s yet: %s", self.name, topic, error)

    def _close(self, failure: BaseException | None) -> None:
        """Commit if all is well, close the tasks, leave the group; every step is taken, the first error raised."""
        first: BaseException | None = None
        if hasattr(self, "_set"):
            if failure is None:
                try:
                    self._commit(self._set.running, refresh=True)
                except (StreamsError, ControlError) as error:
                    _log.warning(
                        "%s: the last commit failed, a restart repeats from the one before: %s", self.name, error
                    )
                    failure = error
            try:
                self._set.close(self._set.all)
            except BaseException as error:
                first = error
            self.task_ids = ()
        for close in reversed(getattr(self, "_closers", [])):
            try:
                close(failure is None)
            except BaseException as error:
                first = first or error
        if first is not None:
            raise first

    # --- the loop ---------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        try:
            self._poll()
            self._take_on()
            if self._app.paused == self._paused and not self._paused:
                self._process()
                self._punctuate()
            else:
                self._follow_pause()
            self._outputs.poll()
            self._commit_if_due()
        except LogRefusalError as refused:
            if self._stop.is_set() and refused.remedy is Remedy.REPEAT:
                raise
            self._remedy(refused)
        except SerializationError as error:
            # a store's value has no bytes, noticed only now: find the record that put it there
            self._remedy(LogRefusalError(str(error), Remedy.CAREFUL))

    def _poll(self) -> None:
        if self._polled_at is not None:
            self._longest_away = max(self._longest_away, self._app.clock.monotonic() - self._polled_at)
        messages: Sequence[Message] = self._consumer.consume(BATCH, 0)
        if not messages:
            wait = self._patience()
            if wait > 0 and self._set.waits:
                self._set.wake.wait(min(wait, _IN_FLIGHT_LOOK_SECONDS))
                self._set.wake.clear()
            elif wait > 0:
                messages = self._consumer.consume(1, wait)
        self._polled_at = self._app.clock.monotonic()
        self._idle = not messages
        if messages:
            self._dispatch(messages)
        # Only now: the consumer has passed the messages, and a commit that is only put off does not go back to them.
        self._assignment.raise_recorded()

    def _patience(self) -> float:
        """Return how long to wait for input (seconds)."""
        if self._backoff:
            backoff, self._backoff = self._backoff, 0.0
            return backoff
        if not self._drained or self._restorer.active or not self._set.ready:
            return 0.0
        wait = self._app.config.poll_ms / 1000
        if any(task.uncommitted for task in self._set.running):
            wait = min(wait, max(self._clock.until_drained(self._app.clock.monotonic()), 0.0005))
        if any(task.paused for task in self._set.running) and not self._paused:
            wait = min(wait, _IDLE_LOOK_SECONDS)
        return wait

    def _dispatch(self, messages: Sequence[Message]) -> None:
        """Hand records to their tasks.

        Comprehensions call the messages' methods at less cost than what `itertools` and `operator` offer. Mostly all
        messages are of one partition; otherwise the client returns them in runs of one.
        """
        if [message for message in messages if message.error() is not None]:
            messages = self._without_events(messages)
        if not messages:
            return
        first = messages[0]
        if len({message.partition() for message in messages}) == 1 == len({message.topic() for message in messages}):
            self._dispatch_run((first.topic(), first.partition()), messages)  # type: ignore[arg-type]  # a record has both
            return
        start = 0
        for place, run in groupby([(message.topic(), message.partition()) for message in messages]):
            end = start + len(list(run))
            self._dispatch_run(place, messages[start:end])  # type: ignore[arg-type]  # as above
            start = end

    def _dispatch_run(self, place: Place, records: Sequence[Message]) -> None:
        task = self._set.at(place)
        if task is not None:
            self._hand_over(task, place, records)
        elif place[0] == self._app.tasks_topic:
            self._notices(records)

    def _hand_over(self, task: ActiveTask, place: Place, records: Sequence[Message]) -> None:
        expected = task.expected[place]
        if records[0].offset() < expected:  # type: ignore[operator]  # a record has an offset; fetched before a rewind
            records = [record for record in records if record.offset() >= expected]  # type: ignore[operator]
            if not records:
                return
        task.task.add_records(*place, records)
        task.expected[place] = records[-1].offset() + 1  # type: ignore[operator]
        if self._set.caught_up:
            self._set.caught_up.discard(place)
        if self._careful.active:
            self._careful.remember(place, records)

    def _without_events(self, messages: Sequence[Message]) -> list[Message]:
        records: list[Message] = []
        for message in messages:
            error = message.error()
            if error is None:
                records.append(message)
                continue
            place = (message.topic() or "", -1 if (number := message.partition()) is None else number)
            task = self._set.at(place)
            if error.code() == KafkaError._PARTITION_EOF:
                self._set.caught_up.add(place)
            elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
                if task is not None:
                    self._out_of_range(task, place, error)
                elif place[0] == self._app.tasks_topic:
                    self._reread_notices(place[1])
            elif error.code() == KafkaError._MAX_POLL_EXCEEDED:
                self._was_too_slow()
            elif error.fatal() or error.code() == KafkaError._FATAL:
                if has_cause(error, KafkaError.UNRELEASED_INSTANCE_ID):
                    raise InstanceHeldError(
                        f"another member of the group has this one's group.instance.id: {error.str()}"
                    )
                if has_cause(error, KafkaError.FENCED_INSTANCE_ID):
                    raise StreamsError(
                        f"another member of the group has come with this one's group.instance.id and has taken its "
                        f"place: give each instance its own ({error.str()})"
                    )
                raise StreamsError(
                    f"the consumer has failed for good: {error.str()}. With group.protocol=consumer the brokers must "
                    f"offer that protocol (Kafka 4.0 or later)"
                )
            elif error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED) and task:
                raise StreamsError(f"source topic {place[0]} (task {task.id}) cannot be read: {error.str()}")
            elif error.code() in _FORBIDDEN:
                raise StreamsError(
                    f"{self.name} is not allowed to join: {error.str()}. It needs READ and DESCRIBE on group "
                    f"{self._app.config.application_id} and on topic {self._app.tasks_topic}"
                )
            else:
                level = logging.INFO if is_busy(error) else logging.WARNING
                _log.log(level, "%s: %s: %s", self.name, error.name(), error.str())
        return records

    def _was_too_slow(self) -> None:
        """The group has thrown this member out, and what it did since the last commit is done again.

        Raises:
            StreamsError: Again, without a commit in between, and such attempts have taken more than
                ``task.timeout.ms`` together. Neither the time between them counts, as an idle application makes none,
                nor being thrown out for another reason.
        """
        limit = settings.max_poll_interval(self._app.config)
        advice = "raise consumer.max.poll.interval.ms, or do less with a record"
        away, self._longest_away = self._longest_away, 0.0
        if away < limit * _ALMOST:
            pass  # it was not slow: the group had another reason
        elif self._too_slow_for is None:
            self._too_slow_for = away
        else:
            self._too_slow_for += away
            if self._too_slow_for > self._app.task_timeout:
                raise StreamsError(
                    f"{self.name}: user code takes longer than max.poll.interval.ms ({limit:g} s) each time, and "
                    f"nothing was committed in {self._too_slow_for:.0f} s of work (task.timeout.ms): {advice}"
                )
        _log.warning(
            "%s: user code took longer than max.poll.interval.ms (%g s), the group gives its tasks away: %s",
            self.name, limit, advice,
        )  # fmt: skip

    def _out_of_range(self, task: ActiveTask, place: Place, error: KafkaError) -> None:
        """The records to be read next are gone (retention): go on where the source says."""
        policy = self._set.reset_of(task, place)
        offset = self._app.admin.offsets([place], end=policy == "latest")[place]
        _log.warning(
            "task %s: %s[%d] no longer has offset %d (%s); it goes on at the %s, %d",
            task.id, *place, task.expected[place], error.str(), policy, offset,
        )  # fmt: skip
        task.pinned[place] = offset
        task.metadata[place] = without_in_flight(task.metadata.get(place, ""))
        task.task.forget_in_flight(*place)
        partition = TopicPartition(*place)
        self._consumer.incremental_unassign([partition])
        self._consumer.incremental_assign([TopicPartition(*place, offset)])
        task.paused.discard(place)
        task.expected[place] = offset
        task.resume[place] = Resume(offset)

    def _reread_notices(self, partition: int) -> None:
        self._consumer.incremental_unassign([TopicPartition(self._app.tasks_topic, partition)])
        start = self._app.admin.offsets([(self._app.tasks_topic, partition)], end=True)
        offset = next(iter(start.values()))
        self._consumer.incremental_assign([TopicPartition(self._app.tasks_topic, partition, offset)])

    def _notices(self, messages: Sequence[Message]) -> None:
        """Records of the tasks topic: what other instances tell."""
        for message in messages:
            key = message.key() or b""
            if key == SHUTDOWN_KEY:
                self._app.on_shutdown_request((message.value() or b"").decode(errors="replace"))
            elif key.startswith(PLAN_KEY):
                self._app.on_plan_changed()

    # --- tasks come and go ------------------------------------------------------------------------------------------

    def _take_on(self) -> None:
        """Open new tasks and bring restoring ones forward."""
        if self._assignment.changes == self._seen_changes and self._relaid is self._app.layout and self._set.ready:
            return
        if self._assignment.changes == 0:
            return
        changes = self._assignment.changes
        if changes != self._seen_changes:
            self._to(ThreadState.PARTITIONS_ASSIGNED)
        if self._relaid is not self._app.layout:
            self._relay()
        complete = self._set.sync(self._assignment.owned)
        if not self._set.advance():
            self._backoff = _LATER_SECONDS  # the log says at once that it cannot answer: do not ask without a pause
        if self._restorer.active:
            wait = _RESTORE_WAIT_SECONDS if self._drained or not self._set.running else 0.0
            self._set.activate(self._restorer.step(wait))
        elif not complete and self._drained:
            self._backoff = _IDLE_LOOK_SECONDS  # another thread of this process still has to close a task
        self.task_ids = tuple(task.id for task in self._set.all)
        if complete:
            self._seen_changes = changes
            self._held_since = None  # it is a member: the next time its id is held is another matter
            if self._set.ready:
                self._to(ThreadState.RUNNING)

    def _relay(self) -> None:
        """New topics or partitions: tasks that read more partitions than before are opened anew."""
        layout = self._app.layout
        changed = [task for task in self._set.all if layout.partitions_of(task.id) != task.partitions]
        if changed:
            self._commit(self._set.running)
            self._set.close(changed)
            self._seen_changes -= 1
        self._relaid = layout

    def _release(self, indices: Sequence[int]) -> None:
        """Before partitions of the tasks topic go (inside ``consume``): commit everything, close their tasks."""
        tasks = self._set.of(indices)
        if tasks:
            self._to(ThreadState.PARTITIONS_REVOKED)
        try:
            self._commit(self._set.running, refresh=any(task.running for task in tasks))
        finally:
            self._set.close(tasks)

    def _lose(self, indices: Sequence[int]) -> None:
        """After partitions went without warning: nothing of their tasks may be committed."""
        self._to(ThreadState.PARTITIONS_REVOKED)
        lost = self._set.of(indices)
        self._note_refused(lost)
        self._set.close(lost)
        raise LogRefusalError("the group has given this member's tasks away", Remedy.ABORT)

    # --- work -------------------------------------------------------------------------------------------------------

    def _process(self) -> None:
        tasks = self._set.running
        if not tasks:
            self._drained = self._idle
            return
        self._outputs.begin()
        now = self._app.clock.monotonic
        limit = self._slice.limit
        if self._careful.active:
            processed = self._process_carefully(tasks)
        else:
            processed = 0
            for task in tasks:
                began = now()
                taken = task.task.process(limit)
                if taken:
                    task.uncommitted = True
                    processed += taken
                    self._slice.took(taken, now() - began)
        self._drained = self._idle and not processed
        if not self._idle or any(task.paused for task in tasks):
            self._hold_back(tasks)

    def _process_carefully(self, tasks: Sequence[ActiveTask]) -> int:
        """One record, one commit: so the one that cannot be committed is found."""
        for task in tasks:
            before = task.task.passed()
            if task.task.process(1):
                task.uncommitted = True
                try:
                    self._commit([task])
                except (LogRefusalError, SerializationError) as error:
                    if isinstance(error, LogRefusalError) and error.remedy is not Remedy.CAREFUL:
                        raise
                    self._careful.settle(task, before, error)
                    return 1
                self._careful.leave_if_done()
                return 1
        self._careful.leave_if_done()
        return 0

    def _hold_back(self, tasks: Sequence[ActiveTask]) -> None:
        """Pause partitions of which more than enough records wait, resume those of which half of that are left."""
        enough = self._app.config.buffered_records_per_partition
        for task in tasks:
            full = [place for place in task.partitions if task.task.buffered(*place) > enough]
            if full:
                self._set.pause(task, full)
            if task.paused:
                self._set.resume(task, [place for place in task.paused if task.task.buffered(*place) <= enough // 2])

    def _punctuate(self) -> None:
        tasks = self._set.running
        if not tasks:
            return
        self._outputs.begin()  # careful mode has just committed
        for task in tasks:
            if task.task.punctuate():
                task.uncommitted = True
        if self._careful.active:
            self._commit(tasks)  # by itself: the next record is committed without the other tasks

    def _follow_pause(self) -> None:
        self._drained = True
        if self._app.paused != self._paused:
            self._paused = self._app.paused
            for task in self._set.running:
                if self._paused:
                    self._set.pause(task, task.partitions)
                else:
                    self._set.resume(task, task.partitions)

    # --- commit -----------------------------------------------------------------------------------------------------

    def _commit_if_due(self) -> None:
        now = self._app.clock.monotonic()
        refresh = now - self._refreshed_at > _REFRESH_SECONDS
        tasks = [task for task in self._set.running if task.uncommitted or task.pinned]
        if not tasks and not refresh:
            if (self._failing_since is not None or self._too_slow_for is not None) and self._has_caught_up():
                self._failing_since = None
                if self._set.all:  # without any, it has only just been thrown out
                    self._too_slow_for = None
                    self._longest_away = 0.0
            return
        if refresh:
            self._commit(self._set.running, refresh=True)
        elif (
            self._clock.is_due(now, drained=self._drained)
            or any(task.task.commit_requested for task in tasks)
            or sum(task.state.buffered_bytes for task in tasks) > self._app.config.state_buffer_max_bytes
        ):
            self._commit(tasks)

    def _commit(self, tasks: Sequence[ActiveTask], *, refresh: bool = False) -> None:
        """Commit tasks, all of those that have something to commit among them.

        Args:
            tasks: Running ones.
            refresh: Commit all offsets again, and the age of all state, also where nothing happened.
        """
        if not refresh:
            tasks = [task for task in tasks if task.uncommitted or task.pinned]
        if not tasks:
            return
        began = self._app.clock.monotonic()
        Commit(
            tasks,
            self._outputs,
            self._consumer,
            application_id=self._app.config.application_id,
            clock=self._app.clock,
            hooks=self._app.hooks,
            refresh=refresh,
        ).run()
        ended = self._app.clock.monotonic()
        self._clock.committed(began, ended)
        if refresh:
            self._refreshed_at = ended
        self._failing_since = None
        self._too_slow_for = None
        self._longest_away = 0.0
        self._refused_up_to = {}
        self._app.sensor.on_commit(self.name, len(tasks), ended - began)
        self._purge.after_commit(tasks)

    def _note_refused(self, tasks: Iterable[ActiveTask]) -> None:
        """Remember how far tasks were, as they will have to do it again."""
        for task in tasks:
            if task.running:
                self._refused_up_to.update((place, at.offset) for place, at in task.task.consumed().items())

    def _has_caught_up(self) -> bool:
        """Whether nothing is left to be done again of what was refused: it is committed, or with somebody else."""
        return self._set.ready and all(
            (task := self._set.at(place)) is None or task.resume[place].offset >= offset
            for place, offset in self._refused_up_to.items()
        )

    # --- refusals ---------------------------------------------------------------------------------------------------

    def _remedy(self, refused: LogRefusalError) -> None:
        """Do what a refusal asks for, and go on.

        Raises:
            StreamsError: It has been refused for ``task.timeout.ms``.
        """
        now = self._app.clock.monotonic()
        if self._failing_since is None:
            self._failing_since = now
            self._next_backoff = _FIRST_BACKOFF_SECONDS
        elif now - self._failing_since > self._app.task_timeout or refused.remedy is Remedy.REPEAT:
            raise StreamsError(
                f"{self.name} made no progress for {now - self._failing_since:.0f} s (task.timeout.ms): {refused}"
            ) from refused
        self._note_refused(self._set.running)
        if not self._app.config.exactly_once and self._is_for_later(refused):
            self._clock.postpone(now + _LATER_SECONDS)
            return
        self._backoff = self._next_backoff
        self._next_backoff = min(self._next_backoff * 2, _LONGEST_BACKOFF_SECONDS)
        _log.warning("%s goes back to its last commit: %s", self.name, refused)
        self._app.sensor.on_abort(self.name, str(refused))
        if refused.remedy is Remedy.CAREFUL:
            self._careful.enter()
        try:
            if refused.remedy is not Remedy.RENEW:
                self._outputs.abort()
        except LogRefusalError as again:
            _log.warning("%s: %s", self.name, again)
            self._renew()
            return
        if refused.remedy is Remedy.RENEW:
            self._renew()
        elif self._app.config.exactly_once:
            self._set.rewind()
        else:
            self._load_again()

    def _is_for_later(self, refused: LogRefusalError) -> bool:
        """Whether offsets can be committed after a rebalance, for the tasks that are still here then.

        Everything was written; only the generation was an old one. If this member is out of the group, its tasks go
        with the next poll.
        """
        late = refused.error is not None and is_membership(refused.error)
        return refused.remedy is Remedy.LATER or late

    def _renew(self) -> None:
        """A new producer: what became of the last transaction is for the log to say, so the tasks are loaded again."""
        self._outputs.renew()
        self._load_again()

    def _load_again(self) -> None:
        """Close all tasks as they are and open them again: committed offsets and positions are read anew.

        Under at-least-once a failed commit may have left changes in the changelogs that local state does not have.
        """
        self._to(ThreadState.PARTITIONS_ASSIGNED)
        self._set.close(self._set.all)
        self._seen_changes -= 1


_WORKING = frozenset({ThreadState.PARTITIONS_ASSIGNED, ThreadState.PARTITIONS_REVOKED, ThreadState.RUNNING})
