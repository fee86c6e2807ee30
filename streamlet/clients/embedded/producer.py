"""The embedded log's producer: the part of ``confluent_kafka.Producer`` that streamlet uses, and its behaviour.

Records queue until a batch is full, the linger is over, or ``flush`` is called, and are then written in one step. The
queue is never full: the thread that fills a batch writes it.
Within a transaction they stay with the producer until ``commit_transaction``, which writes them and the consumer
offsets in one SQLite transaction. Their offsets, hence their delivery reports, are known only then: the callbacks run
inside ``commit_transaction``.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import ClusterMetadata

from streamlet.clients.embedded import partitioner
from streamlet.clients.embedded.batch import Records
from streamlet.clients.embedded.broker import Broker
from streamlet.clients.embedded.consumer import group_offset
from streamlet.clients.embedded.groups import read_metadata
from streamlet.clients.embedded.log import GroupOffset, Log, Partition, Topic
from streamlet.clients.embedded.message import DeliveryCallback, Headers, HeadersArgument, Message, as_bytes, as_headers
from streamlet.clients.embedded.metadata import cluster_metadata
from streamlet.clients.embedded.options import Options

logger = logging.getLogger(__name__)

Report: TypeAlias = "tuple[DeliveryCallback, KafkaError | None, Message]"
# Partition, key, value, timestamp, headers, delivery callback.
Queued: TypeAlias = "tuple[Partition, bytes | None, bytes | None, int, Headers | None, DeliveryCallback | None]"

Batch: TypeAlias = "tuple[Partition, list[Queued]]"

# What librdkafka adds to key and value when it judges a record's size.
_RECORD_OVERHEAD = 36

# More than this many since the keeper last looked, 5 ms ago: records are streaming in. It looks on so many times.
_STREAMING_RECORDS = 100
_PATIENCE = 10

_INIT, _READY, _IN_TRANSACTION, _ABORTABLE, _FATAL = "Init", "Ready", "InTransaction", "AbortableError", "FatalError"


class Producer:
    """A producer to an embedded log; may be used from several threads, its transactions from one.

    Every producer is idempotent: a record is written once or reported as failed.

    Raises:
        ConfigError: A value that does not fit.
    """

    def __init__(self, broker: Broker, config: Mapping[str, Any]) -> None:
        options = Options(config)
        self._broker = broker
        self._log: Log = broker.log
        self._transactional_id = options.text("transactional.id", "")
        self._on_delivery: DeliveryCallback | None = config.get("on_delivery")
        self._only_errors = options.flag("delivery.report.only.error", False)
        self._max_bytes = options.whole("message.max.bytes", 1_000_000, least=1000)
        self._linger_seconds = options.number("linger.ms", 5, least=0) / 1000
        self._batch_records = options.whole("batch.num.messages", 10_000, least=1)
        self._batch_bytes = options.whole("batch.size", 1_000_000, least=1)
        name = options.text("partitioner", partitioner.DEFAULT)
        self._partition_of_key, self._spread_nulls = partitioner.partitioner(name)
        self._topics: dict[str, Topic] = {}
        self._sticky: dict[str, int] = {}
        self._queue: deque[Queued] = deque()
        self._queued_bytes = 0
        self._queued_before = 0
        self._patience = _PATIENCE
        self._reports: deque[Report] = deque()
        self._reported = threading.Condition(threading.Lock())
        self._sending = threading.RLock()
        self._state = _INIT if self._transactional_id else _READY
        self._epoch = -1
        self._failure: KafkaError | None = None
        self._refused: KafkaError | None = None
        self._offsets: dict[str, dict[tuple[str, int], GroupOffset]] = {}
        broker.keeper.start()

    # -- producing --------------------

    def produce(
        self,
        topic: str,
        value: str | bytes | None = None,
        key: str | bytes | None = None,
        partition: int = -1,
        callback: DeliveryCallback | None = None,
        on_delivery: DeliveryCallback | None = None,
        timestamp: int = 0,
        headers: HeadersArgument = None,
    ) -> None:
        """Queue a record. A topic that does not exist is made.

        Args:
            topic: Its topic.
            value: Bytes, text (as UTF-8) or None.
            key: The same.
            partition: A number, or -1 for the partitioner's choice.
            callback: The same as `on_delivery`.
            on_delivery: Called with ``(error, message)`` by `poll`, `flush` or `commit_transaction`.
            timestamp: ms since 1970; 0 is now.
            headers: A mapping or pairs.

        Raises:
            KafkaException: _STATE outside a transaction, MSG_SIZE_TOO_LARGE, _UNKNOWN_PARTITION, _FATAL when fenced.
            TypeError: A value of another type.
        """
        if type(key) is not bytes and key is not None:
            key = as_bytes(key)
        if type(value) is not bytes and value is not None:
            value = as_bytes(value)
        found = self._topics.get(topic)
        if found is None or found.dropped:
            found = self._find_topic(topic)
        count = len(found.partitions)
        if partition < 0:
            if key is not None or not self._spread_nulls:
                choose = self._partition_of_key
                partition = choose(key or b"", count) if choose is not None else self._random(topic, count)
            else:
                partition = self._random(topic, count)
        elif partition >= count:
            text = f"Unable to produce message: {topic} has {count} partitions, none with number {partition}"
            raise _error(KafkaError._UNKNOWN_PARTITION, text)
        if value is not None:
            # orjson never shrinks its results, each holds 4 KiB: what is kept is a copy of its own length
            value = b"%b" % value
        size = (len(value) if value else 0) + (len(key) if key else 0)
        if size > self._max_bytes - _RECORD_OVERHEAD:
            text = f"Unable to produce message: {size} bytes, message.max.bytes is {self._max_bytes}"
            raise _error(KafkaError.MSG_SIZE_TOO_LARGE, text)
        queue = self._queue
        if self._state is not _READY or self._transactional_id:
            self._check_may_produce()
        elif not queue:
            self._broker.keeper.linger(self, self._linger_seconds)
        queue.append(
            (
                found.partitions[partition],
                key,
                value,
                timestamp or int(time.time() * 1000),
                as_headers(headers) if headers else None,
                on_delivery or callback or self._on_delivery,
            )
        )
        self._queued_bytes += size
        if (
            self._queued_bytes >= self._batch_bytes or len(queue) >= self._batch_records
        ) and not self._transactional_id:
            self.send()

    def linger_over(self) -> bool:
        """Send, unless records are streaming in: the thread that produces them soon fills a batch and writes it itself.

        Writing here meanwhile would cost both threads: SQLite gives the interpreter's lock up at each step, and gets it
        back from a busy thread only after 5 ms.
        """
        queued = len(self._queue)
        streaming = abs(queued - self._queued_before) >= _STREAMING_RECORDS and self._patience > 0
        if streaming:
            self._queued_before = queued
            self._patience -= 1
            return False
        self._queued_before = 0
        self._patience = _PATIENCE
        self.send()
        return True

    def send(self) -> None:
        """Write what is queued. Failures go to the delivery reports."""
        if self._transactional_id:
            return
        with self._sending:
            writes = self._take()
            if not writes:
                return
            fine = [(p, good) for p, queued in writes if (good := self._without_refused(p, queued))]
            if fine:
                self._append_or_report(fine)

    def _append_or_report(self, writes: list[Batch]) -> None:
        records = [(partition, _records(queued)) for partition, queued in writes]
        try:
            bases = self._log.append(records)
        except KafkaException as error:
            if len(writes) > 1:
                # One deleted topic must not fail the others' records.
                for write in writes:
                    self._append_or_report([write])
                return
            self._report(writes[0][1], error.args[0])
            return
        self._report_delivered(writes, records, bases)

    def _take(self) -> list[Batch]:
        """What is queued, by partition."""
        queue = self._queue
        popleft = queue.popleft
        self._queued_bytes = 0
        grouped: dict[Partition, list[Queued]] = {}
        for _ in range(len(queue)):
            record = popleft()
            partition = record[0]
            if partition in grouped:
                grouped[partition].append(record)
            else:
                grouped[partition] = [record]
        self._sticky.clear()
        return [(self._alive(partition), queued) for partition, queued in grouped.items()]

    def _alive(self, partition: Partition) -> Partition:
        """The partition, or the one of that number of the topic that was made anew."""
        if not partition.topic.dropped:
            return partition
        partitions = self._find_topic(partition.topic.name).partitions
        return partitions[partition.number % len(partitions)]

    def _without_refused(self, partition: Partition, queued: list[Queued]) -> list[Queued]:
        """The records that the topic takes; the others are reported."""
        topic = partition.topic
        if topic.max_bytes < self._max_bytes:
            largest = topic.max_bytes - _RECORD_OVERHEAD
            text = f"{partition!r}: larger than the topic's max.message.bytes, {topic.max_bytes}"
            error = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, text)
            queued = self._refuse(queued, lambda r: len(r[1] or b"") + len(r[2] or b"") > largest, error)
        if topic.config.get("cleanup.policy") == "compact":
            error = KafkaError(KafkaError.INVALID_RECORD, f"{partition!r}: a record of a compacted topic needs a key")
            queued = self._refuse(queued, lambda r: r[1] is None, error)
        return queued

    def _refuse(self, queued: list[Queued], bad: Callable[[Queued], bool], error: KafkaError) -> list[Queued]:
        refused = [record for record in queued if bad(record)]
        if not refused:
            return queued
        self._refused = error
        self._report(refused, error)
        return [record for record in queued if not bad(record)]

    def _report_delivered(
        self, writes: list[Batch], appended: list[tuple[Partition, Records]], bases: list[int]
    ) -> None:
        if self._only_errors:
            return
        for (partition, queued), (_, records), base in zip(writes, appended, bases):
            topic, number, stamp = partition.topic.name, partition.number, partition.topic.stamp
            reports: list[Report] = [  # without an epoch, as librdkafka's
                (callback, None, Message(topic, number, base + at, key, value, time, headers, stamp, None))
                for at, ((_, key, value, _, headers, callback), time) in enumerate(zip(queued, records.timestamps))
                if callback is not None
            ]
            self._enqueue(reports)

    def _report(self, queued: list[Queued], error: KafkaError) -> None:
        reports: list[Report] = [
            (callback, error, Message(at.topic.name, at.number, None, key, value, time, headers, 1, None))
            for at, key, value, time, headers, callback in queued
            if callback is not None
        ]
        self._enqueue(reports)

    def _enqueue(self, reports: list[Report]) -> None:
        if reports:
            with self._reported:
                self._reports.extend(reports)
                self._reported.notify_all()

    def poll(self, timeout: float = -1) -> int:
        """Run delivery callbacks; waits up to the timeout (seconds, -1: for ever) for the first.

        Returns:
            How many ran.
        """
        if timeout and not self._reports:
            self.send()
            with self._reported:
                self._reported.wait_for(lambda: self._reports, None if timeout < 0 else timeout)
        return self._serve()

    def flush(self, timeout: float = -1) -> int:
        """Write what is queued and run the callbacks.

        Returns:
            How many records are still undelivered: 0, or those of the open transaction.
        """
        self.send()
        self._serve()
        return len(self)

    def _serve(self) -> int:
        served = 0
        reports = self._reports
        while True:
            try:
                callback, error, message = reports.popleft()
            except IndexError:
                return served
            served += 1
            callback(error, message)

    def purge(self, in_queue: bool = True, in_flight: bool = True, blocking: bool = True) -> None:
        """Drop what is queued; the callbacks get _PURGE_QUEUE."""
        if in_queue:
            with self._sending:
                error = KafkaError(KafkaError._PURGE_QUEUE)
                for _, queued in self._take():
                    self._report(queued, error)

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> ClusterMetadata:
        """The log's topics, or one of them, which is made if it does not exist. Never waits."""
        if topic is not None:
            self._find_topic(topic)
        return cluster_metadata(self._log, topic)

    def close(self) -> bool:
        """Write what is queued, run the callbacks, and end an open transaction by aborting it."""
        if self._state in (_IN_TRANSACTION, _ABORTABLE):
            self.abort_transaction()
        return self.flush() == 0

    def __len__(self) -> int:
        return len(self._queue) + len(self._reports)

    def __bool__(self) -> bool:
        return True

    # -- transactions --------------------

    def init_transactions(self, timeout: float = -1) -> None:
        """Take the transactional id over: an earlier producer with it is fenced.

        Raises:
            KafkaException: _NOT_CONFIGURED without ``transactional.id``; _STATE a second time.
        """
        self._require(_INIT)
        self._epoch = self._log.next_producer_epoch(self._transactional_id)
        self._state = _READY

    def begin_transaction(self) -> None:
        """Begin.

        Raises:
            KafkaException: _STATE: not initialised, or one is open.
        """
        self._require(_READY)
        self._state = _IN_TRANSACTION

    def send_offsets_to_transaction(
        self, positions: list[TopicPartition], group_metadata: object, timeout: float = -1
    ) -> None:
        """Commit these offsets together with the transaction.

        Raises:
            KafkaException: ILLEGAL_GENERATION, UNKNOWN_MEMBER_ID: the membership is not current, abort; _FENCED.
        """
        self._require(_IN_TRANSACTION, _ABORTABLE)
        self._raise_failure()
        group, generation, member = read_metadata(group_metadata)
        self._fatal_if_fenced(lambda: self._log.check_fence(self._transactional_id, self._epoch))
        with self._log.lock:
            refused = self._broker.group(group).verify(member, generation)
        if refused is not None:
            self._fail(refused)
            raise KafkaException(refused)
        known = self._offsets.setdefault(group, {})
        for p in positions:
            if p.offset >= 0:
                known[p.topic, p.partition] = group_offset(p)

    def commit_transaction(self, timeout: float = -1) -> None:
        """Write the transaction's records and offsets, all or nothing, and run the delivery callbacks.

        Raises:
            KafkaException: _STATE; _FENCED (fatal); with ``txn_requires_abort`` where a record was refused or the file
                cannot be written; retriable where another process held the file for too long: call it again.
        """
        self._require(_IN_TRANSACTION, _ABORTABLE)
        self._raise_failure()
        with self._sending:
            taken = self._take()
            self._refused = None
            writes = [(partition, self._without_refused(partition, queued)) for partition, queued in taken]
            if self._refused is not None:
                self._purge_taken(writes)
                error = KafkaError(self._refused.code(), self._refused.str(), txn_requires_abort=True)
                self._fail(error)
                raise KafkaException(error)
            offsets = {group: list(known.values()) for group, known in self._offsets.items() if known}
            try:
                self._fatal_if_fenced(lambda: self._append_transaction(writes, offsets))
            except KafkaException as failure:
                self._after_failed_commit(failure.args[0], writes)
                raise
        self._offsets = {}
        self._state = _READY
        self._serve()

    def _append_transaction(self, writes: list[Batch], offsets: dict[str, list[GroupOffset]]) -> None:
        if not writes and not offsets:
            self._log.check_fence(self._transactional_id, self._epoch)
            return
        records = [(partition, _records(queued)) for partition, queued in writes]
        try:
            bases = self._log.append(
                records,
                marker=True,
                fence=(self._transactional_id, self._epoch),
                offsets=offsets,
            )
        except KafkaException as failure:
            error: KafkaError = failure.args[0]
            if error.fatal() or error.retriable():
                raise
            raise KafkaException(KafkaError(error.code(), error.str(), txn_requires_abort=True)) from failure
        self._report_delivered(writes, records, bases)

    def _after_failed_commit(self, error: KafkaError, writes: list[Batch]) -> None:
        if error.retriable():
            for _, queued in reversed(writes):
                self._queue.extendleft(reversed(queued))
            return
        self._purge_taken(writes)
        if not error.fatal():
            self._fail(error)

    def abort_transaction(self, timeout: float = -1) -> None:
        """Drop the transaction's records and offsets; the callbacks get _PURGE_QUEUE.

        Raises:
            KafkaException: _STATE: none is open; _FENCED (fatal).
        """
        self._require(_IN_TRANSACTION, _ABORTABLE)
        self.purge()
        self._offsets = {}
        self._failure = None
        self._fatal_if_fenced(lambda: self._log.check_fence(self._transactional_id, self._epoch))
        self._state = _READY
        self._serve()

    def _purge_taken(self, writes: list[Batch]) -> None:
        error = KafkaError(KafkaError._PURGE_QUEUE)
        for _, queued in writes:
            self._report(queued, error)

    def _require(self, *states: str) -> None:
        if not self._transactional_id:
            text = "The Transactional API requires transactional.id to be configured"
            raise _error(KafkaError._NOT_CONFIGURED, text)
        if self._state is _FATAL:
            raise KafkaException(self._failure)
        if self._state not in states:
            raise _error(KafkaError._STATE, f"Operation not valid in state {self._state}")

    def _check_may_produce(self) -> None:
        if self._state is _FATAL:
            raise _error(KafkaError._FATAL, f"Unable to produce message: {self._failure}")
        if self._state not in (_IN_TRANSACTION, _ABORTABLE):
            raise _error(KafkaError._STATE, f"Unable to produce message: not valid in state {self._state}")

    def _fail(self, error: KafkaError) -> None:
        self._failure = error
        self._state = _ABORTABLE

    def _raise_failure(self) -> None:
        if self._state is _ABORTABLE:
            raise KafkaException(self._failure)

    def _fatal_if_fenced(self, action: Callable[[], None]) -> None:
        try:
            action()
        except KafkaException as error:
            if error.args[0].fatal():
                self._failure = error.args[0]
                self._state = _FATAL
            raise

    # -- topics --------------------

    def _find_topic(self, name: str) -> Topic:
        found = self._log.topic(name, create=True)
        if found is None:
            raise _error(KafkaError.UNKNOWN_TOPIC_OR_PART, f"topic {name} does not exist")
        self._topics[name] = found
        return found

    def _random(self, topic: str, count: int) -> int:
        """One partition for the whole batch, as librdkafka's sticky partitioning does it."""
        chosen = self._sticky.get(topic)
        if chosen is None or chosen >= count:
            chosen = self._sticky[topic] = random.randrange(count)
        return chosen


def _records(queued: list[Queued]) -> Records:
    _, keys, values, timestamps, headers, _ = zip(*queued)
    # Offsets come with the append; until then a range says that they have no holes.
    return Records(range(len(queued)), keys, values, timestamps, headers if any(headers) else None)


def _error(code: int, text: str) -> KafkaException:
    return KafkaException(KafkaError(code, text))
