"""A task: one sub-topology at work on one partition, without a client of its own.

The stream thread and the `TopologyTestDriver` use it alike. Its life::

    task = Task(sub_topology, TaskId(0, 3), partitions=[("input", 3)], ...)
    state = TaskState.open(sub_topology.stores, timestamp=task.timestamp, ...)   # and restore it
    task.restore_time(("input", 3), committed_metadata)
    task.initialize(state)                     # compiles, Processor.init
    task.add_records("input", 3, messages); task.process(1000); task.punctuate()
    task.prepare_commit(); task.consumed()     # then the log commits
    task.committed()                           # or task.rewind() after an abort
    task.close()
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Any, Protocol

import attrs

from streamlet.config import StreamsConfig
from streamlet.errors import ControlError, TaskError, TopologyError
from streamlet.metrics import Sensor
from streamlet.processor.api import Cancellable, PunctuationType
from streamlet.processor.operator import Deferring, Forward, InFlight, Remembered
from streamlet.records import Headers, Record, RecordMetadata, TaskId
from streamlet.runtime.compile import compile_sub_topology
from streamlet.runtime.dropped import DroppedRecords
from streamlet.runtime.handlers import ErrorContext, ExceptionHandler, OutputRecord, Response, Result, ask, log_and_fail
from streamlet.runtime.in_flight import Reached, RecordsInFlight
from streamlet.runtime.punctuation import Punctuation, Punctuations
from streamlet.runtime.queue import Head, Message, RecordQueue, TaskOffset
from streamlet.runtime.times import decode_times, encode_times, number_id
from streamlet.serdes import as_it_is
from streamlet.state.cache_budget import CacheBudget
from streamlet.time import Clock
from streamlet.topology.deferral import check_deferral
from streamlet.topology.graph import SubTopology
from streamlet.topology.nodes import SourceNode, internal_name


class Collector(Protocol):
    """Where sinks write."""

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        headers: Headers,
        partition: int | None,
        node: str,
        /,
    ) -> None:
        """Write a record; `topic` is its name on the log, `partition` None leaves the choice to the client's
        partitioner."""

    def partition_count(self, topic: str, /) -> int:
        """Return how many partitions a topic has; asked only for sinks with a partitioner of their own."""

    @property
    def direct(self) -> Direct | None:
        """How to write without a call in between, which every record would pay for; None: only through `send`."""


@attrs.define
class Direct:
    """How a sink hands records to the client itself.

    Attributes:
        produce: The client's.
        report: What to give with each record as its delivery callback. It may change while the task runs.
        otherwise: Called with the arguments of `send` where `produce` raises `BufferError` or `KafkaException`.
    """

    produce: Callable[..., None]
    report: Callable[..., None] | None
    otherwise: Callable[[str, bytes | None, bytes | None, int, Headers, int | None, str], None]


class State(Protocol):
    """What a task needs of its stores: `streamlet.state.TaskState`."""

    def store(self, name: str) -> Any:
        """Return a store."""

    def read_only(self, name: str) -> Any:
        """Return a view of a store's committed state."""


class Task:
    """One sub-topology at work on one partition; used from one thread.

    Args:
        sub_topology: What to run.
        task_id: Its identity.
        partitions: The partitions it reads, as (name of the topic on the log, partition).
        collector: Where its sinks write.
        config: The application's configuration.
        clock: For wall-clock punctuation.
        sensor: Told what happens.
        lag: How many records of a partition wait on the log, None: not known yet. Asked for partitions without
            records, under ``max.task.idle.ms``; default: none ever wait.
        observe: Wraps the function of each processor node, given its name, for tests that look on.
        global_stores: Read-only views of the global stores, by name.
        cache_budget: What its record caches may hold, together with others; None: changes are not held back.
        wake: Called from any thread when a node that sends records on later has some ready.

    Attributes:
        id: Its identity.
        stream_time: Highest timestamp so far (ms), -1 before the first record.
        commit_requested: Whether a processor asked for a commit since the last `committed`.
    """

    def __init__(
        self,
        sub_topology: SubTopology,
        task_id: TaskId,
        *,
        partitions: Iterable[tuple[str, int]],
        collector: Collector,
        config: StreamsConfig,
        clock: Clock,
        sensor: Sensor,
        lag: Callable[[str, int], int | None] | None = None,
        observe: Callable[[str, Forward], Forward] | None = None,
        global_stores: Mapping[str, Any] | None = None,
        cache_budget: CacheBudget | None = None,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.sub_topology = sub_topology
        self.id = task_id
        self._name = str(task_id)
        self.partitions = tuple(partitions)
        self.collector = collector
        self.config = config
        self.clock = clock
        self.sensor = sensor
        self.stream_time = -1
        self.commit_requested = False
        self.observe = observe
        self.global_stores = global_stores or {}
        self.cache_budget = cache_budget
        self._lag = lag
        self._wake = wake
        self._in_flight: RecordsInFlight | None = None
        self._state: State | None = None
        self._functions: dict[str, Forward] = {}
        self._queues: dict[tuple[str, int], RecordQueue] = {}
        self._times: dict[tuple[str, int], int] = {}
        self._message: Message | None = None
        self._timestamp = -1
        self._stream_punctuations = Punctuations(PunctuationType.STREAM_TIME)
        self._wall_punctuations = Punctuations(PunctuationType.WALL_CLOCK_TIME)
        self._on_commit: list[Callable[[], None]] = []
        self._on_committed: list[Callable[[], None]] = []
        self._shared: dict[str, Any] = {}
        self._on_close: list[Callable[[], None]] = []
        self._on_rewind: list[Callable[[], None]] = []
        self._remembered: dict[bytes, Remembered] = {}
        self._restored: dict[bytes, int] = {}
        self._snapshot: _Snapshot | None = None
        self._dropped = DroppedRecords(task_id, sensor, clock)

    # --- life -------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> Any:
        """Its stores."""
        return self._state

    def timestamp(self) -> int:
        """Return the timestamp of the record at hand, or the time of the punctuation (ms)."""
        return self._timestamp

    def topic_on_log(self, topic: str) -> str:
        """Return a topic's name on the log: internal ones carry the application's id."""
        return internal_name(self.config.application_id, topic) if self.sub_topology.is_internal(topic) else topic

    def initialize(self, state: State) -> None:
        """Compile the sub-topology and initialise its processors; the stores are open and restored.

        Raises:
            TopologyError: If a processor asks for a store it is not connected with.
            TaskError: If a processor's `init` raises; what was initialised before it is closed again.
        """
        self._state = state
        try:
            self._functions = compile_sub_topology(self.sub_topology, self)
        except (ControlError, TopologyError):
            self.close()
            raise
        except Exception as error:
            self.close()
            raise TaskError(
                f"task {self.id} could not be initialised: {type(error).__name__}: {error}", task=str(self.id)
            ) from error
        for topic, partition in self.partitions:
            self.add_partition(topic, partition)
        self._take_snapshot()

    def add_partition(self, topic: str, partition: int) -> None:
        """Read one more partition: of a topic that came to match a pattern. Nothing happens if it is read already.

        Raises:
            TopologyError: If no source reads that topic.
        """
        if (topic, partition) in self._queues:
            return
        source = self._source_of(topic)
        if source is None:
            raise TopologyError(f"task {self.id} does not read topic {topic!r}")
        queue = RecordQueue(len(self._queues), topic, partition, source, self._functions[source.name])
        queue.partition_time = self._times.get((topic, partition), -1)
        self._queues[topic, partition] = queue

    def reads(self, topic: str) -> bool:
        """Tell whether a source reads a topic, given by its name on the log."""
        return self._source_of(topic) is not None

    def _source_of(self, topic: str) -> SourceNode | None:
        for source in self.sub_topology.sources:
            if any(self.topic_on_log(name) == topic for name in source.topics):
                return source
        for source in self.sub_topology.sources:
            if source.pattern is not None and source.pattern.fullmatch(topic):
                return source
        return None

    def close(self) -> None:
        """Close its processors; all of them, then the first exception is raised. The stores are left to their owner."""
        first: Exception | None = None
        self._message = None
        if self._in_flight is not None:
            self._in_flight.drop()
        while self._on_close:
            try:
                self._on_close.pop()()
            except Exception as error:
                first = first or error
        if first is not None:
            raise TaskError(
                f"closing task {self.id} failed: {type(first).__name__}: {first}", task=str(self.id)
            ) from first

    # --- records ----------------------------------------------------------------------------------------------------

    def add_records(self, topic: str, partition: int, messages: Sequence[Message]) -> None:
        """Take records of one of its partitions, in the order of their offsets; `topic` as it is named on the log."""
        if self._in_flight is not None:
            messages = self._in_flight.undone((topic, partition), messages)
        self._queues[topic, partition].messages.extend(messages)

    def buffered(self, topic: str, partition: int) -> int:
        """Return how many records of a partition wait."""
        return len(self._queues[topic, partition])

    def process(self, limit: int) -> int:
        """Process up to `limit` records, the one with the lowest timestamp first; return how many were taken.

        0 says that nothing may be processed now: there are no records, or ``max.task.idle.ms`` has the task wait for
        others. Records that nodes have taken to send on later count when they are sent on, too.

        Raises:
            TaskError: If a record could not be processed and the handler chose to fail; the record counts as not
                processed.
        """
        if self._in_flight is not None:
            return self._process_in_flight(self._in_flight, limit)
        return self._process_now(limit)

    def _process_in_flight(self, in_flight: RecordsInFlight, limit: int) -> int:
        """Let nodes send on what is ready, and take as many records as they have room for."""
        try:
            settled = in_flight.settle()
        except ControlError:
            raise
        except Exception as error:
            raise self._error(None, "could not be processed", error) from error
        finally:
            self._message = None
        if in_flight.one_at_a_time and settled:
            in_flight.begin()
            return settled  # the commit that follows is to be about this record only
        room = in_flight.room()
        taken = self._process_now(min(limit, room)) if room > 0 else 0
        in_flight.begin()
        return 0 if in_flight.one_at_a_time and in_flight else settled + taken

    def _process_now(self, limit: int) -> int:
        if len(self._queues) == 1:
            (queue,) = self._queues.values()
            taken = self._process_direct(queue, limit) if queue.messages else 0
        else:
            taken = self._process_ordered(limit)
        if taken:
            self.sensor.on_processed(self._name, taken)
        return taken

    def _process_direct(self, queue: RecordQueue, limit: int) -> int:
        """Run records of the only partition through the topology.

        This loop is the cost that every record pays: no object per record, nothing looked up twice.
        """
        messages = queue.messages
        if limit >= len(messages):
            batch = list(messages)
            messages.clear()
        else:
            batch = [messages.popleft() for _ in range(limit)]
        decode_key, decode_value, forward = queue.decode_key, queue.decode_value, queue.forward
        raw_keys = decode_key is as_it_is
        extractor = queue.source.timestamp_extractor
        punctuations = self._stream_punctuations
        partition_time, stream_time = queue.partition_time, self.stream_time
        message: Message | None = None
        done: Message | None = None
        try:
            for message in batch:
                raw_key = message.key()
                raw_value = message.value()
                timestamp = message.timestamp()[1]
                headers = message.headers() or ()
                self._message = message
                try:
                    key = raw_key if raw_keys or raw_key is None else decode_key(raw_key)
                    value = None if raw_value is None else decode_value(raw_value)
                except Exception as error:
                    self._unreadable(queue, message, error)
                    done = message
                    continue
                if extractor is not None or timestamp < 0:
                    timestamp = self._extract(queue, key, value, timestamp, headers, partition_time)
                    if timestamp < 0:
                        done = message
                        continue
                if timestamp > partition_time:
                    partition_time = timestamp
                    if timestamp > stream_time:
                        self.stream_time = stream_time = timestamp
                self._timestamp = timestamp
                forward(key, value, timestamp, headers)
                if stream_time >= punctuations.due_ms:
                    self._punctuate_stream_time()
                done = message
        except BaseException as error:
            rest = batch if message is None else batch[batch.index(message) :]
            messages.extendleft(reversed(rest))
            if isinstance(error, ControlError) or not isinstance(error, Exception):
                raise
            raise self._error(None, "could not be processed", error) from error
        finally:
            self._message = None
            queue.partition_time = partition_time
            if done is not None:
                queue.last = done
        return len(batch)

    def _process_ordered(self, limit: int) -> int:
        """Run records of several partitions through the topology, the lowest timestamp first."""
        taken = sum(self._fill_head(queue) for queue in self._queues.values() if queue.head is None)
        heap = [(queue.head.timestamp, queue.index, queue) for queue in self._queues.values() if queue.head is not None]
        heapify(heap)
        while heap and taken < limit:
            if len(heap) < len(self._queues) and not self._may_go_on():
                break
            _, index, queue = heap[0]
            self._process_head(queue)
            taken += 1 + self._fill_head(queue)
            if queue.head is None:
                heappop(heap)
            else:
                heapreplace(heap, (queue.head.timestamp, index, queue))
        return taken

    def _process_head(self, queue: RecordQueue) -> None:
        head = queue.head
        assert head is not None
        timestamp = head.timestamp
        queue.partition_time = max(queue.partition_time, timestamp)
        self.stream_time = max(self.stream_time, timestamp)
        self._message, self._timestamp = head.message, timestamp
        try:
            queue.forward(head.key, head.value, timestamp, head.headers)
            if self.stream_time >= self._stream_punctuations.due_ms:
                self._punctuate_stream_time()
        except ControlError:
            raise
        except Exception as error:
            raise self._error(None, "could not be processed", error) from error
        finally:
            self._message = None
        queue.last, queue.head = head.message, None

    def _fill_head(self, queue: RecordQueue) -> int:
        """Read and stamp the next record that can be; return how many had to be dropped on the way."""
        dropped = 0
        while queue.messages:
            message = self._message = queue.messages[0]
            try:
                head = self._read(queue, message)
            finally:
                self._message = None
            queue.messages.popleft()
            if head is not None:
                queue.head, queue.idle_until = head, None
                break
            dropped += 1
            queue.last = message
        return dropped

    def _read(self, queue: RecordQueue, message: Message) -> Head | None:
        raw_key, raw_value = message.key(), message.value()
        timestamp, headers = message.timestamp()[1], message.headers() or ()
        try:
            key = None if raw_key is None else queue.decode_key(raw_key)
            value = None if raw_value is None else queue.decode_value(raw_value)
        except Exception as error:
            self._unreadable(queue, message, error)
            return None
        if queue.source.timestamp_extractor is not None or timestamp < 0:
            timestamp = self._extract(queue, key, value, timestamp, headers, queue.partition_time)
            if timestamp < 0:
                return None
        return Head(message, key, value, timestamp, headers)

    def _may_go_on(self) -> bool:
        """Tell whether records may be processed although some partitions have none (``max.task.idle.ms``, KIP-695)."""
        idle_ms = self.config.max_task_idle_ms
        if idle_ms < 0 or (self._lag is None and idle_ms == 0):
            return True
        for queue in self._queues.values():
            if len(queue):
                continue
            lag = 0 if self._lag is None else self._lag(queue.topic, queue.partition)
            if lag is None or lag > 0:
                queue.idle_until = None
                return False
            if idle_ms > 0:
                now = self.clock.wall_ms()
                if queue.idle_until is None:
                    queue.idle_until = now + idle_ms
                if now < queue.idle_until:
                    return False
        return True

    def _extract(
        self, queue: RecordQueue, key: Any, value: Any, timestamp: int, headers: Headers, partition_time: int
    ) -> int:
        """Ask the source's extractor; a negative result says that the record was dropped."""
        extractor = queue.source.timestamp_extractor
        try:
            if extractor is None:
                raise TaskError(
                    f"the record has the invalid timestamp {timestamp}: it was written without one; give the source a "
                    f"timestamp_extractor, such as use_partition_time_on_invalid_timestamp"
                )
            extracted = extractor(Record(key, value, timestamp, headers), partition_time)
            if not isinstance(extracted, int):
                raise TypeError(f"the timestamp extractor must return whole milliseconds, not {extracted!r}")
        except Exception as error:
            raise self._error(queue.source.name, "has no valid timestamp", error) from error
        if extracted < 0:
            self.dropped(queue.source.name, "negative timestamp")
        return extracted

    # --- punctuation ------------------------------------------------------------------------------------------------

    def schedule(
        self, node: Any, interval_ms: int, type: PunctuationType, callback: Callable[[int], object]
    ) -> Cancellable:
        """Schedule a callback for a node."""
        stream = type is PunctuationType.STREAM_TIME
        punctuations = self._stream_punctuations if stream else self._wall_punctuations
        return punctuations.add(node, interval_ms, callback, self.clock.wall_ms())

    def punctuate(self) -> bool:
        """Call the wall-clock punctuations that are due; tell whether there was one."""
        return self._wall_punctuations.run(self.clock.wall_ms(), self._call)

    def _punctuate_stream_time(self) -> None:
        self._message = None
        self._stream_punctuations.run(self.stream_time, self._call)

    def _call(self, punctuation: Punctuation, now_ms: int) -> None:
        self._message, self._timestamp = None, now_ms
        try:
            punctuation.callback(now_ms)
        except Exception as error:
            punctuation.node.failed(error, None, None, now_ms, ())

    # --- commit -----------------------------------------------------------------------------------------------------

    def on_commit(self, callback: Callable[[], None]) -> None:
        """Have a callback called at the start of each commit; nodes nearer to the source first."""
        self._on_commit.insert(0, callback)  # nodes are compiled leaves first

    def on_committed(self, callback: Callable[[], None]) -> None:
        """Have a callback called by `committed`."""
        self._on_committed.append(callback)

    def on_rewind(self, callback: Callable[[], None]) -> None:
        """Have a callback called by `rewind`."""
        self._on_rewind.append(callback)

    def remember(self, name: str) -> Remembered:
        """Return a number that is committed with the offsets; see `NodeContext.remember`."""
        number = number_id(name)
        return self._remembered.setdefault(number, Remembered(self._restored.get(number, -1)))

    def on_close(self, callback: Callable[[], None]) -> None:
        """Have a callback called by `close`, the last one first."""
        self._on_close.append(callback)

    def prepare_commit(self) -> None:
        """Let nodes send on what they hold back; call it before the state's changes are gathered."""
        for callback in self._on_commit:
            callback()

    def defer(self, node: Deferring, limit: int) -> InFlight:
        """Let a node send records on later than it takes them; see `NodeContext.defer`."""
        check_deferral(self.sub_topology)
        if self._in_flight is None:
            self._in_flight = self._new_in_flight()
        self._in_flight.add(node, limit)
        return _NodeInFlight(self, self._in_flight)

    def _new_in_flight(self) -> RecordsInFlight:
        def at_hand(message: Message | None, timestamp: int) -> None:
            self._message, self._timestamp = message, timestamp

        return RecordsInFlight(at_hand, self._wake)

    @property
    def waits(self) -> bool:
        """Whether nodes have records that they will send on later."""
        return self._in_flight is not None and bool(self._in_flight)

    def set_careful(self, careful: bool) -> None:
        """Have one record at a time in flight, or as many as may be."""
        if self._in_flight is not None:
            self._in_flight.one_at_a_time = careful

    def forget_in_flight(self, topic: str, partition: int) -> None:
        """A partition begins elsewhere than was committed: nothing of it counts as done."""
        if self._in_flight is not None:
            self._in_flight.forget((topic, partition))

    def passed(self) -> dict[tuple[str, int], int]:
        """Return the offset behind the last record that was taken, for each partition of which one was; if the last
        one is in flight, its own."""
        in_flight = self._in_flight
        return {
            key: queue.last.offset() + (in_flight is None or not in_flight.runs(key, queue.last.offset()))
            for key, queue in self._queues.items()
            if queue.last is not None
        }

    def consumed(self) -> dict[tuple[str, int], TaskOffset]:
        """Return what to commit, for each partition of which records were processed since the last restart or
        rewind."""
        numbers = {name: number.value for name, number in self._remembered.items() if number.value >= 0}
        if self._in_flight is not None:
            return self._consumed_around(self._in_flight, numbers)
        return {
            key: TaskOffset(
                queue.last.offset() + 1, queue.last.leader_epoch(), encode_times(queue.partition_time, numbers)
            )
            for key, queue in self._queues.items()
            if queue.last is not None
        }

    def metadata(self) -> dict[tuple[str, int], str]:
        """Return what to commit with offsets that are committed already; nothing if no number has changed since.

        Time may go on without records, and has to be there again after a restart. Asked for only as long as no record
        was taken.
        """
        numbers = {name: number.value for name, number in self._remembered.items() if number.value >= 0}
        before = {} if self._snapshot is None else self._snapshot.remembered
        if all(before.get(name) == value for name, value in numbers.items()):
            return {}
        in_flight = self._in_flight
        return {
            key: encode_times(queue.partition_time, numbers)
            + ("" if in_flight is None else in_flight.reached(key, None).encode())
            for key, queue in self._queues.items()
        }

    def _consumed_around(
        self, in_flight: RecordsInFlight, numbers: Mapping[bytes, int]
    ) -> dict[tuple[str, int], TaskOffset]:
        offsets: dict[tuple[str, int], TaskOffset] = {}
        for key, queue in self._queues.items():
            if queue.last is not None:
                reached = in_flight.reached(key, queue.last)
                metadata = encode_times(queue.partition_time, numbers) + reached.encode()
                epoch = queue.last.leader_epoch() if reached.offset == queue.last.offset() + 1 else None
                offsets[key] = TaskOffset(reached.offset, epoch, metadata)
        return offsets

    def committed(self) -> None:
        """What `consumed` returned is committed: `rewind` goes back to here."""
        self.commit_requested = False
        self._take_snapshot()
        for callback in self._on_committed:
            callback()

    def rewind(self) -> None:
        """After an abort: drop the records that wait, and go back to the times of the last commit; the thread seeks."""
        for queue in self._queues.values():
            queue.messages.clear()
            queue.head = queue.idle_until = None
        self.commit_requested = False
        if self._snapshot is not None:
            self._snapshot.apply(self, self._queues)
            if self._in_flight is not None:
                self._in_flight.rewind(self._snapshot.in_flight)
                for queue in self._queues.values():
                    queue.last = None  # what is read next may lie before it
        for callback in self._on_rewind:
            callback()

    def restore_time(self, partition: tuple[str, int], metadata: str | None) -> None:
        """Take the partition's time, and what nodes remember, from the metadata of its committed offset; before
        `initialize`."""
        self._times[partition], numbers = decode_times(metadata)
        reached = Reached.decode(metadata)
        if reached is not None:
            if self._in_flight is None:
                self._in_flight = self._new_in_flight()
            self._in_flight.restore(partition, reached)
        for name, value in numbers.items():
            self._restored[name] = max(self._restored.get(name, -1), value)
        self.stream_time = max(self.stream_time, self._times[partition])

    def _take_snapshot(self) -> None:
        self._snapshot = _Snapshot(
            self.stream_time,
            {key: (queue.last, queue.partition_time) for key, queue in self._queues.items()},
            self._stream_punctuations.snapshot(),
            self._wall_punctuations.snapshot(),
            {name: number.value for name, number in self._remembered.items()},
            {}
            if self._in_flight is None
            else {key: self._in_flight.reached(key, queue.last) for key, queue in self._queues.items()},
        )

    # --- for nodes --------------------------------------------------------------------------------------------------

    def shared(self, name: str, make: Callable[[], Any]) -> Any:
        """Return an object that nodes share; the first one to ask makes it."""
        if name not in self._shared:
            self._shared[name] = make()
        return self._shared[name]

    def record_metadata(self) -> RecordMetadata | None:
        """Return where the record at hand came from; None in a punctuation."""
        message = self._message
        return None if message is None else RecordMetadata(message.topic(), message.partition(), message.offset())

    def app_configs(self) -> Mapping[str, Any]:
        """Return the configuration by its keys, without what was given for clients (it holds secrets)."""
        return {
            setting.metadata["key"]: getattr(self.config, setting.name)
            for setting in attrs.fields(StreamsConfig)
            if "key" in setting.metadata
        }

    def dropped(self, node: str, reason: str) -> None:
        """Count a record that was dropped, and log it, throttled."""
        self._dropped.add(node, reason, self.record_metadata())

    # --- errors -----------------------------------------------------------------------------------------------------

    def _unreadable(self, queue: RecordQueue, message: Message, error: Exception) -> None:
        handler = self.config.deserialization_exception_handler or log_and_fail
        self._settle(handler, queue.source.name, message, error, "cannot be deserialised", "deserialization error")

    def processing_failed(
        self, node: str, error: Exception, key: Any, value: Any, timestamp: int, headers: Headers
    ) -> None:
        """Ask the processing exception handler; return if it chose to continue."""
        handler = self.config.processing_exception_handler or log_and_fail
        record = Record(key, value, timestamp, headers)
        self._settle(handler, node, record, error, "failed in user code", "processing error")

    def production_failed(
        self, node: str, error: Exception, topic: str, key: Any, value: Any, timestamp: int, headers: Headers
    ) -> None:
        """Ask the production exception handler about a record that cannot be serialised."""
        handler = self.config.production_exception_handler or log_and_fail
        record = OutputRecord(topic, key, value, timestamp, headers)
        self._settle(handler, node, record, error, f"cannot be serialised for topic {topic}", "serialization error")

    def _settle(
        self, handler: ExceptionHandler, node: str, record: Any, error: Exception, what: str, reason: str
    ) -> None:
        response: Response = ask(handler, self.error_context(node), record, error)
        for letter in response.dead_letters:
            self.collector.send(letter.topic, letter.key, letter.value, letter.timestamp, letter.headers, None, node)
        if response.result is not Result.CONTINUE:
            raise self._error(node, what, error) from error
        self.dropped(node, reason)

    def error_context(self, node: str | None) -> ErrorContext:
        """Return where things stand, for an exception handler."""
        message = self._message
        return ErrorContext(
            node=node,
            task=self.id,
            topic=None if message is None else message.topic(),
            partition=None if message is None else message.partition(),
            offset=None if message is None else message.offset(),
            timestamp=self._timestamp if message is None else message.timestamp()[1],
            headers=() if message is None else message.headers() or (),
            raw_key=None if message is None else message.key(),
            raw_value=None if message is None else message.value(),
            dead_letter_topic=self.config.dead_letter_queue_topic,
        )

    def _error(self, node: str | None, what: str, error: BaseException) -> TaskError:
        context = self.error_context(node)
        subject = "a punctuation" if context.topic is None else "a record"
        return TaskError(
            f"{subject} {what} ({context}): {type(error).__name__}: {error}",
            node=node,
            task=str(self.id),
            topic=context.topic,
            partition=context.partition,
            offset=context.offset,
        )


class _NodeInFlight:
    """What a task does for a node that sends records on later: see `InFlight`."""

    def __init__(self, task: Task, records: RecordsInFlight) -> None:
        self._task = task
        self._records = records
        self.at_hand = records.at_hand
        self.leave = records.leave
        self.wake = records.wake

    def enter(self) -> Any:
        message = self._task._message
        assert message is not None  # `check_deferral`: no punctuation stands before such a node
        self._records.enter(message)
        return message


@attrs.frozen
class _Snapshot:
    """What a task goes back to when a transaction is aborted."""

    stream_time: int
    queues: Mapping[tuple[str, int], tuple[Message | None, int]]
    stream_punctuations: tuple[tuple[Punctuation, int], ...]
    wall_punctuations: tuple[tuple[Punctuation, int], ...]
    remembered: Mapping[bytes, int]
    in_flight: Mapping[tuple[str, int], Reached]

    def apply(self, task: Task, queues: Mapping[tuple[str, int], RecordQueue]) -> None:
        task.stream_time = self.stream_time
        for key, queue in queues.items():
            queue.last, queue.partition_time = self.queues.get(key, (None, -1))
        task._stream_punctuations.restore(self.stream_punctuations)
        task._wall_punctuations.restore(self.wall_punctuations)
        for name, number in task._remembered.items():
            number.value = self.remembered.get(name, -1)
