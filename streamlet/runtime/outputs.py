"""What a thread writes: records of sinks, changelogs, and the commit that makes them count.

`TransactionalOutputs` is exactly-once: one producer, one transaction over everything since the last commit.
`PlainOutputs` is
at-least-once: one producer for sinks and one for changelogs, flushed before offsets are committed.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from attrs import frozen
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streamlet.clients.supplier import Consumer, Producer
from streamlet.records import Headers
from streamlet.runtime.failures import LogRefusalError, Remedy, error_of, is_busy, is_record_fault, refusal
from streamlet.runtime.places import Place
from streamlet.state import ChangelogRecord, record_checksum
from streamlet.time import Clock

_log = logging.getLogger(__name__)

_ATTEMPT_SECONDS = 5.0
_SHORTEST_ATTEMPT_SECONDS = 1.0
_QUEUE_SECONDS = 0.05
_CLOSE_SECONDS = 10.0
# How long a log that does not answer may hold up an application that is being closed: a restart goes on from the last
# commit, whatever became of this one.
_CLOSING_SECONDS = 10.0


@frozen
class Delivered:
    """Where the last record of a changelog partition came to lie.

    Attributes:
        offset: Its offset.
        leader_epoch: The epoch under which it was written, if the producer is told; librdkafka's is not.
        checksum: What tells it from another record at this offset.
    """

    offset: int
    leader_epoch: int | None
    checksum: int

    @classmethod
    def of(cls, message: Any) -> Delivered:
        """Return what a delivery report says."""
        checksum = record_checksum(message.key(), message.value(), message.timestamp()[1])
        return cls(message.offset(), message.leader_epoch(), checksum)


@frozen
class LostRecord:
    """A record that the log refused after it was handed over."""

    topic: str
    partition: int | None
    key: bytes | None
    value: bytes | None
    timestamp: int
    error: KafkaError


DeliveryCallback: TypeAlias = Callable[[KafkaError | None, Any], None]
MakeProducer: TypeAlias = Callable[[dict[str, Any]], Producer]


class Outputs(ABC):
    """The producers of a thread.

    All methods raise `LogRefusalError` where the log refuses.

    Args:
        clock: For the time that a repeated call may take.
        timeout: ``task.timeout.ms`` in seconds: how long an operation that timed out is repeated.
        closing: Tells whether the thread is to end: then it is repeated for a few seconds only.

    Attributes:
        delivered: Where the last record of each changelog partition came to lie, since the last commit.
        careful: Have every record's delivery reported, so that `refused` names what the log did not take.
        refused: Records that the log refused for good since the last commit or abort.
    """

    def __init__(self, clock: Clock, timeout: float, closing: Callable[[], bool]) -> None:
        self._clock = clock
        self._timeout = timeout
        self._closing = closing
        self._attempt = min(_ATTEMPT_SECONDS, max(timeout, _SHORTEST_ATTEMPT_SECONDS))
        self._unanswered_since: float | None = None
        self.delivered: dict[Place, Delivered] = {}
        self.careful = False
        self.refused: list[LostRecord] = []

    @abstractmethod
    def begin(self) -> None:
        """Make ready to write; called before records are processed."""

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        headers: Headers,
        partition: int | None,
    ) -> None:
        """Write a record of a sink; waits while the producer's queue is full.

        A timestamp of 0 means "now" to librdkafka: one millisecond past the epoch is the nearest that it can write.

        Raises:
            KafkaException: The record cannot be written (too large, no such partition).
        """
        try:
            self._produce(
                self.producer,
                topic,
                value,
                key,
                -1 if partition is None else partition,
                self.report,
                None,
                timestamp or 1,
                list(headers) if headers else None,
            )
        except KafkaException as exception:
            self.raise_if_lost(exception)
            raise

    def raise_if_lost(self, exception: KafkaException) -> None:
        """Raise if not the record is at fault, but the transaction or the producer cannot be used any more."""
        error = error_of(exception)
        if error.fatal() or error.code() in (KafkaError._FATAL, KafkaError._FENCED):
            raise refusal("could not write", error, Remedy.RENEW) from exception
        if error.code() == KafkaError._STATE:
            raise refusal("could not write: the transaction has failed", error, Remedy.ABORT) from exception

    @property
    @abstractmethod
    def producer(self) -> Producer:
        """What sinks write with; another one after `renew`."""

    @property
    def report(self) -> DeliveryCallback | None:
        """What to give with each record that sinks write: nothing, unless reports are needed."""
        return None

    @abstractmethod
    def send_changelog(self, topic: str, partition: int, records: Sequence[ChangelogRecord]) -> None:
        """Write changes of a store; where the last one comes to lie will be in `delivered`."""

    @abstractmethod
    def prepare(self, offsets: list[TopicPartition], consumer: Consumer) -> None:
        """Do what comes before the commit: offsets into the transaction, or everything written to the log."""

    @abstractmethod
    def finish(self, offsets: list[TopicPartition], consumer: Consumer) -> None:
        """Commit what was prepared; afterwards it counts, and `delivered` is complete."""

    @abstractmethod
    def abort(self) -> None:
        """Drop what was written since the last commit, as far as that is possible."""

    @abstractmethod
    def renew(self) -> None:
        """Replace the producers after a fatal error."""

    @abstractmethod
    def poll(self) -> None:
        """Serve delivery reports."""

    @abstractmethod
    def partition_count(self, topic: str) -> int:
        """Return how many partitions a topic has."""

    @abstractmethod
    def close(self, *, clean: bool) -> None:
        """Close the producers; what is not committed is dropped."""

    @property
    def _patience(self) -> float:
        return min(self._timeout, _CLOSING_SECONDS) if self._closing() else self._timeout

    def _repeat(self, what: str, call: Callable[[float], object]) -> None:
        """Call until the outcome is known.

        A call that timed out may have worked: only the same call again can tell. The timeout counts from the first call
        that was not answered, whatever that was: what is tried instead gets no time of its own.
        """
        while True:
            began = self._clock.monotonic()
            try:
                call(self._attempt)
                self._unanswered_since = None
                return
            except KafkaException as exception:
                error = error_of(exception)
                failure = refusal(f"could not {what}", error)
                if failure.remedy is not Remedy.REPEAT:
                    self._unanswered_since = None
                    raise failure from exception
                if self._unanswered_since is None:
                    self._unanswered_since = began
                if self._clock.monotonic() - self._unanswered_since > self._patience:
                    raise failure from exception
                _log.warning("could not %s, trying again: %s", what, error.str())

    def _produce_all(
        self, producer: Producer, topic: str, partition: int, records: Sequence[ChangelogRecord], report: Any
    ) -> None:
        produce = producer.produce
        for key, value, timestamp in records:
            try:
                produce(topic, value, key, partition, report, None, timestamp or 1)
            except BufferError:
                self._produce(producer, topic, value, key, partition, report, None, timestamp or 1)

    def _produce(self, producer: Producer, *arguments: Any) -> None:
        """Hand a record over: `produce`'s arguments, the report as `callback` (its other name does not replace a None).

        A full queue is waited for.
        """
        full_since: float | None = None
        while True:
            try:
                producer.produce(*arguments)
                return
            except BufferError:
                now = self._clock.monotonic()
                full_since = now if full_since is None else full_since
                if now - full_since > self._patience:
                    raise LogRefusalError(
                        f"the producer's queue stayed full for {now - full_since:.0f} s: the log takes no records",
                        Remedy.ABORT,
                    ) from None
                _serve(producer, _QUEUE_SECONDS)


def _serve(producer: Producer, timeout: float) -> None:
    try:
        producer.poll(timeout)
    except SystemError as error:  # confluent-kafka, once the producer has a fatal error (docs/runtime-findings.md)
        raise LogRefusalError("the producer is fenced", Remedy.RENEW) from error


def _lost(error: KafkaError, message: Any) -> LostRecord:
    return LostRecord(
        message.topic(), message.partition(), message.key(), message.value(), message.timestamp()[1], error
    )


class TransactionalOutputs(Outputs):
    """Exactly-once: nothing of it is seen before the commit."""

    def __init__(self, make: Callable[[], Producer], clock: Clock, timeout: float, closing: Callable[[], bool]) -> None:
        super().__init__(clock, timeout, closing)
        self._make = make
        self._open = False
        self._producer = self._initialised()

    def _initialised(self) -> Producer:
        producer = self._make()
        self._repeat("initialise transactions", producer.init_transactions)
        return producer

    @property
    def producer(self) -> Producer:
        return self._producer

    @property
    def report(self) -> DeliveryCallback | None:
        return self._report if self.careful else None

    def begin(self) -> None:
        if not self._open:
            try:
                self._producer.begin_transaction()
            except KafkaException as exception:
                raise refusal("could not begin a transaction", error_of(exception), Remedy.RENEW) from exception
            self._open = True

    def send_changelog(self, topic: str, partition: int, records: Sequence[ChangelogRecord]) -> None:
        producer, report = self._producer, self._report if self.careful else None
        try:
            self._produce_all(producer, topic, partition, records[:-1], report)
            self._produce_all(producer, topic, partition, records[-1:], self._last)
        except KafkaException as exception:
            self.raise_if_lost(exception)
            raise refusal(f"a change could not be written to {topic}[{partition}]", error_of(exception)) from exception

    def _last(self, error: KafkaError | None, message: Any) -> None:
        if error is None:
            self.delivered[message.topic(), message.partition()] = Delivered.of(message)
        else:
            self._report(error, message)

    def _report(self, error: KafkaError | None, message: Any) -> None:
        if error is not None and is_record_fault(error):
            self.refused.append(_lost(error, message))

    def prepare(self, offsets: list[TopicPartition], consumer: Consumer) -> None:
        self.begin()
        if offsets:
            self._repeat(
                "send offsets to the transaction",
                lambda seconds: self._producer.send_offsets_to_transaction(
                    offsets, consumer.consumer_group_metadata(), seconds
                ),
            )

    def finish(self, offsets: list[TopicPartition], consumer: Consumer) -> None:
        try:
            self._repeat("commit the transaction", self._producer.commit_transaction)
        except SystemError as error:
            raise LogRefusalError("the producer was fenced while it committed", Remedy.RENEW) from error
        self._open = False
        _serve(self._producer, 0)  # a real producer's delivery reports wait to be served

    def abort(self) -> None:
        if self._open:
            try:
                self._repeat("abort the transaction", self._producer.abort_transaction)
            except SystemError as error:
                raise LogRefusalError("the producer was fenced before it could abort", Remedy.RENEW) from error
            self._open = False
        self.delivered.clear()

    def renew(self) -> None:
        self._discard()
        self.delivered.clear()
        self._open = False
        self._producer = self._initialised()

    def poll(self) -> None:
        _serve(self._producer, 0)

    def partition_count(self, topic: str) -> int:
        return _partition_count(self._producer, topic)

    def close(self, *, clean: bool) -> None:
        if self._open:
            try:
                self._producer.abort_transaction(_ATTEMPT_SECONDS)
            except (KafkaException, SystemError) as error:
                _log.warning("the open transaction could not be aborted, the broker will time it out: %s", error)
        self._discard()

    def _discard(self) -> None:
        try:
            self._producer.purge()
        except (KafkaException, SystemError) as error:
            _log.debug("purging a producer that is given up: %s", error)


class PlainOutputs(Outputs):
    """At-least-once: records are seen at once, and again after a crash."""

    def __init__(self, make: MakeProducer, clock: Clock, timeout: float, closing: Callable[[], bool]) -> None:
        super().__init__(clock, timeout, closing)
        self._make = make
        self._failed: list[LostRecord] = []
        self._newest: dict[Place, Any] = {}
        self._open()

    def _open(self) -> None:
        # Reports of successes would cost half a microsecond a record; those of errors cannot be done without.
        self._producer = self._make({"on_delivery": self._report, "delivery.report.only.error": True})
        self._changes = self._make({})

    @property
    def producer(self) -> Producer:
        return self._producer

    def begin(self) -> None:
        pass

    def send_changelog(self, topic: str, partition: int, records: Sequence[ChangelogRecord]) -> None:
        try:
            self._produce_all(self._changes, topic, partition, records, self._change_report((topic, partition)))
        except KafkaException as exception:
            raise refusal(f"a change could not be written to {topic}[{partition}]", error_of(exception)) from exception

    def _report(self, error: KafkaError | None, message: Any) -> None:
        if error is not None and error.code() not in (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT):
            self._failed.append(_lost(error, message))

    def _change_report(self, place: Place) -> DeliveryCallback:
        """Return what keeps the newest record of a changelog partition; every record of it pays for a call."""
        newest = -1

        def report(error: KafkaError | None, message: Any) -> None:
            nonlocal newest
            if error is not None:
                self._report(error, message)
                return
            offset = message.offset()
            if offset > newest:
                newest = offset
                self._newest[place] = message

        return report

    def prepare(self, offsets: list[TopicPartition], consumer: Consumer) -> None:
        self._flush(self._changes, "the changelogs")
        for place, message in self._newest.items():
            self.delivered[place] = Delivered.of(message)
        self._newest.clear()
        self._flush(self._producer, "the results")

    def finish(self, offsets: list[TopicPartition], consumer: Consumer) -> None:
        if offsets:
            self._repeat("commit offsets", lambda _: _checked(consumer.commit(offsets=offsets, asynchronous=False)))

    def _flush(self, producer: Producer, what: str) -> None:
        began = self._clock.monotonic()
        while producer.flush(self._attempt):
            waited = self._clock.monotonic() - began
            if waited > self._patience:
                raise LogRefusalError(f"{what} could not be written within {waited:.0f} s", Remedy.ABORT)
            self._raise_failed()
        self._raise_failed()

    def _raise_failed(self) -> None:
        """Raise what was refused: it would be lost in silence, for the offsets behind it would be committed.

        The broker refuses whole batches, and so innocent records with the one at fault: the tasks are replayed
        carefully.
        """
        if self._failed:
            failed, self._failed = self._failed, []
            self.refused = [lost for lost in failed if is_record_fault(lost.error)]
            first = self.refused[0] if self.refused else failed[0]
            raise refusal(f"topic {first.topic} refused a record", first.error, _plain_remedy(first.error))

    def abort(self) -> None:
        for producer in (self._changes, self._producer):
            producer.purge()
            producer.poll(0)
        self._failed.clear()
        self._newest.clear()
        self.delivered.clear()
        self._unanswered_since = None  # the next attempt is a new one: the thread counts how long it goes on like this

    def renew(self) -> None:
        self.abort()
        self._open()

    def poll(self) -> None:
        self._producer.poll(0)
        self._raise_failed()

    def partition_count(self, topic: str) -> int:
        return _partition_count(self._producer, topic)

    def close(self, *, clean: bool) -> None:
        # what sinks wrote may as well arrive: dead letters of the record that ended it all, for one
        self._producer.flush(_CLOSE_SECONDS)
        for producer in (self._changes, self._producer):
            producer.purge()
            producer.poll(0)


def _plain_remedy(error: KafkaError) -> Remedy:
    if error.fatal():
        return Remedy.RENEW
    return Remedy.CAREFUL if is_record_fault(error) and not is_busy(error) else Remedy.ABORT


def _checked(committed: Sequence[TopicPartition] | None) -> None:
    for partition in committed or ():
        if partition.error is not None:
            raise KafkaException(partition.error)


def _partition_count(producer: Producer, topic: str) -> int:
    try:
        found = producer.list_topics(topic, timeout=_ATTEMPT_SECONDS).topics[topic]
    except KafkaException as exception:
        error = error_of(exception)
        if not is_busy(error):
            raise
        # no fault of the record at hand: no handler is asked
        raise refusal(f"the partitions of topic {topic} are not known", error, Remedy.ABORT) from exception
    if found.error is not None:
        raise KafkaException(found.error)
    return len(found.partitions)
