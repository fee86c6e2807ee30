"""The embedded log's consumer: the part of ``confluent_kafka.Consumer`` that streamlet uses, and its behaviour."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from confluent_kafka import OFFSET_END, OFFSET_INVALID, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import ClusterMetadata

from streamlet.clients.embedded.broker import Broker
from streamlet.clients.embedded.fetch import Fetch
from streamlet.clients.embedded.groups import Member, Place, metadata_of
from streamlet.clients.embedded.log import GroupOffset, Log
from streamlet.clients.embedded.message import ErrorMessage, Message
from streamlet.clients.embedded.metadata import cluster_metadata
from streamlet.clients.embedded.options import Options

logger = logging.getLogger(__name__)

RebalanceCallback: TypeAlias = "Callable[[Consumer, list[TopicPartition]], None]"

# How long a waiting consumer may sleep: other processes' writes are noticed by looking, silent members too.
_SHARED_WAIT_SECONDS = 0.01
_WAIT_SECONDS = 0.5
_RESETS = {
    "smallest": "earliest",
    "earliest": "earliest",
    "beginning": "earliest",
    "largest": "latest",
    "latest": "latest",
    "end": "latest",
    "error": "error",
}


class Consumer:
    """A consumer of an embedded log. For one thread, as confluent-kafka's is here.

    Raises:
        ValueError: No ``group.id``.
        ConfigError: A value that does not fit, or automatic commits, which the embedded log does not do.
    """

    def __init__(self, broker: Broker, config: Mapping[str, Any]) -> None:
        options = Options(config)
        self._group_id = options.text("group.id", "")
        if not self._group_id:
            raise ValueError("Failed to create consumer: group.id must be set")
        options.refuse_true("enable.auto.commit", "commit offsets yourself")
        self._reset = _RESETS[options.one_of("auto.offset.reset", "latest", _RESETS)]
        isolation = options.one_of("isolation.level", "read_committed", ("read_committed", "read_uncommitted"))
        self._read_committed = isolation == "read_committed"
        self._want_eof = options.flag("enable.partition.eof", False)
        self._client_id = options.text("client.id", "streamlet")
        self._max_poll_seconds = options.whole("max.poll.interval.ms", 300_000, least=1) / 1000
        self._create = options.flag("allow.auto.create.topics", True)
        self._broker = broker
        self._log: Log = broker.log
        self._group = broker.group(self._group_id)
        self._member: Member | None = None
        self._patterns: list[re.Pattern[str]] = []
        self._names: frozenset[str] = frozenset()
        self._callbacks: tuple[RebalanceCallback | None, RebalanceCallback | None, RebalanceCallback | None]
        self._callbacks = (None, None, None)
        self._group_version = -1
        self._catalog_version = -1
        self._group_places: set[Place] = set()
        self._in_callback = False
        self._touched = False
        self._fetches: dict[Place, Fetch] = {}
        self._order: list[Fetch] = []
        self._drained_version = -1
        self._events: list[Message] = []
        self._closed = False

    # -- subscription and assignment --------------------

    def subscribe(
        self,
        topics: list[str],
        on_assign: RebalanceCallback | None = None,
        on_revoke: RebalanceCallback | None = None,
        on_lost: RebalanceCallback | None = None,
    ) -> None:
        """Join the group for these topics; a name that begins with ``^`` is a regular expression.

        The callbacks run inside `consume` and `poll`. A topic that does not exist is made.

        Raises:
            KafkaException: _INVALID_ARG: no topics.
            LockError: Another process uses the group.
        """
        self._check_open()
        if not topics or not all(isinstance(t, str) and t for t in topics):
            raise _error(KafkaError._INVALID_ARG, "Failed to set subscription: a list of topic names is needed")
        self._callbacks = (on_assign, on_revoke, on_lost)
        self._names = frozenset(t for t in topics if not t.startswith("^"))
        self._patterns = [re.compile(t) for t in topics if t.startswith("^")]
        if self._create:
            for name in self._names:
                self._log.topic(name, create=True)
        with self._log.lock:
            if self._member is not None:
                self._member.topics = self._matching()
                self._group.rebalance()
            else:
                self._join()

    def unsubscribe(self) -> None:
        """Leave the group."""
        self._check_open()
        self._leave()

    def assign(self, partitions: list[TopicPartition]) -> None:
        """Replace the assignment.

        Raises:
            KafkaException: _STATE: within a rebalance callback; there only the incremental calls are allowed.
        """
        self._check_open()
        if self._in_callback:
            text = "changes to the assignment must be made with incremental_assign and incremental_unassign here"
            raise _error(KafkaError._STATE, text)
        fetches = {(p.topic, p.partition): self._fetch(p) for p in partitions}
        self._fetches = fetches
        self._reorder()

    def unassign(self) -> None:
        """Drop the whole assignment."""
        self._check_open()
        self._touched = True
        self._fetches = {}
        self._reorder()

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        """Add to the assignment.

        Raises:
            KafkaException: _CONFLICT: a partition is assigned already.
        """
        self._check_open()
        self._touched = True
        for p in partitions:
            if (p.topic, p.partition) in self._fetches:
                text = f"{p.topic} [{p.partition}] is already part of the current assignment"
                raise _error(KafkaError._CONFLICT, text)
        for p in partitions:
            self._fetches[p.topic, p.partition] = self._fetch(p)
        self._reorder()

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        """Take out of the assignment.

        Raises:
            KafkaException: _INVALID_ARG: a partition is not assigned.
        """
        self._check_open()
        self._touched = True
        for p in partitions:
            if (p.topic, p.partition) not in self._fetches:
                text = f"{p.topic} [{p.partition}] can't be removed: it is not in the current assignment"
                raise _error(KafkaError._INVALID_ARG, text)
        gone = {(p.topic, p.partition) for p in partitions}
        for place in gone:
            del self._fetches[place]
        # What waits to be handed out would otherwise be taken for news of the next assignment of the partition.
        self._events[:] = [event for event in self._events if (event.topic(), event.partition()) not in gone]
        self._reorder()

    def assignment(self) -> list[TopicPartition]:
        """The assigned partitions."""
        self._check_open()
        return [TopicPartition(topic, number) for topic, number in self._fetches]

    def pause(self, partitions: list[TopicPartition]) -> None:
        """Hand out nothing from these until `resume`; unassigned ones are passed over."""
        self._set_paused(partitions, True)

    def resume(self, partitions: list[TopicPartition]) -> None:
        """Go on with these."""
        self._set_paused(partitions, False)

    def seek(self, partition: TopicPartition) -> None:
        """Go on reading a partition at an offset.

        Raises:
            KafkaException: _UNKNOWN_PARTITION: it is not assigned.
        """
        self._check_open()
        fetch = self._fetches.get((partition.topic, partition.partition))
        if fetch is None:
            text = f"Failed to seek to offset {partition.offset}: {partition.topic}[{partition.partition}] not assigned"
            raise _error(KafkaError._UNKNOWN_PARTITION, text)
        fetch.seek(partition.offset, partition.leader_epoch)
        self._drained_version = -1

    # -- consuming --------------------

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        """Up to so many messages; waits until they are all there or the timeout (seconds, -1: for ever) is over.

        Raises:
            ValueError: More than a million messages.
            RuntimeError: The consumer is closed.
        """
        if not 0 <= num_messages <= 1_000_000:
            raise ValueError("num_messages must be between 0 and 1000000 (1M)")
        self._check_open()
        found: list[Message] = []
        deadline = None if timeout < 0 else time.monotonic() + timeout if timeout else 0.0
        while True:
            self._serve_group()
            self._log.refresh_if_due()
            seen = self._log.version
            self._gather(found, num_messages)
            if len(found) >= num_messages or deadline == 0.0:
                return found
            remaining = 3600.0 if deadline is None else deadline - time.monotonic()
            if remaining <= 0:
                return found
            self._wait(seen, remaining)

    def poll(self, timeout: float = -1) -> Message | None:
        """The next message, or None after the timeout (seconds, -1: wait for ever)."""
        found = self.consume(1, timeout)
        return found[0] if found else None

    def _wait(self, seen: int, remaining: float) -> None:
        log = self._log
        with log.changed:
            if log.version == seen and self._group.version == self._group_version and not self._events:
                log.changed.wait(min(remaining, _SHARED_WAIT_SECONDS if log.shared else _WAIT_SECONDS))

    def _gather(self, found: list[Message], want: int) -> None:
        events = self._events
        if events:
            found.extend(events[: want - len(found)])
            del events[: len(found)]
        log = self._log
        version = log.version
        if version == self._drained_version:
            return
        order = self._order
        with log.lock:
            for at, fetch in enumerate(order):
                if fetch.paused:
                    continue
                while True:
                    room = want - len(found)
                    if room <= 0:
                        # The next call begins with this partition: none starves.
                        self._order = order[at:] + order[:at]
                        self._hand_out_events(found, want)
                        return
                    if fetch.left:
                        fetch.take(found, room)
                    elif not fetch.fill(events, self._want_eof):
                        break
            self._drained_version = version
        self._hand_out_events(found, want)

    def _hand_out_events(self, found: list[Message], want: int) -> None:
        room = want - len(found)
        if self._events and room > 0:
            found.extend(self._events[:room])
            del self._events[:room]

    # -- the group --------------------

    def _serve_group(self) -> None:
        member = self._member
        if member is None:
            return
        log, group = self._log, self._group
        now = time.monotonic()
        member.last_poll = now
        if member.expelled:
            self._lose()
            return
        if self._patterns and self._catalog_version != log.catalog_version:
            self._catalog_version = log.catalog_version
            self._rematch(member)
        with log.lock:
            group.check(now)
            if group.version == self._group_version:
                return
            self._group_version = group.version
            revoked = sorted(group.revocable(member))
        if revoked:
            self._run(self._callbacks[1], revoked, added=False)
            self._group_places.difference_update(revoked)
        with log.lock:
            if revoked:
                group.release(member, revoked)
            added = group.acquire(member)
            self._group_version = group.version
        if added is not None:
            self._group_places |= added
            self._run(self._callbacks[0], sorted(added), added=True)

    def _run(self, callback: RebalanceCallback | None, places: Sequence[Place], *, added: bool) -> None:
        """Tell the application, and do what it does not do itself to the assignment."""
        partitions = [TopicPartition(topic, number) for topic, number in places]
        self._touched = False
        self._in_callback = True
        try:
            if callback is not None:
                callback(self, partitions)
        finally:
            self._in_callback = False
            if added:
                if not self._touched:
                    self.incremental_assign([p for p in partitions if (p.topic, p.partition) not in self._fetches])
            else:
                for place in places:
                    self._fetches.pop(place, None)
                self._reorder()

    def _lose(self) -> None:
        """The group has gone on without this consumer: give up everything and join again."""
        lost = sorted(self._group_places)
        self._group_places = set()
        self._member = None
        text = f"Application maximum poll interval ({self._max_poll_seconds * 1000:.0f}ms) exceeded"
        self._events.append(ErrorMessage(KafkaError(KafkaError._MAX_POLL_EXCEEDED, text)))
        self._run(self._callbacks[2] or self._callbacks[1], lost, added=False)
        with self._log.lock:
            self._join()

    def _join(self) -> None:
        member = Member(self._client_id, self._matching(), self._max_poll_seconds)
        self._group.join(member)
        self._member = member
        self._group_version = -1

    def _leave(self) -> None:
        member = self._member
        if member is None:
            return
        if member.expelled:
            callback = self._callbacks[2] or self._callbacks[1]
        else:
            callback = self._callbacks[1]
        places = sorted(self._group_places)
        try:
            if places:
                self._run(callback, places, added=False)
        finally:
            self._member = None
            self._group_places = set()
            with self._log.lock:
                self._group.leave(member)

    def _matching(self) -> frozenset[str]:
        if not self._patterns:
            return self._names
        matched = {name for name in self._log.topics if any(p.match(name) for p in self._patterns)}
        return self._names | matched

    def _rematch(self, member: Member) -> None:
        topics = self._matching()
        if topics != member.topics:
            with self._log.lock:
                member.topics = topics
                self._group.rebalance()

    # -- offsets --------------------

    def commit(
        self,
        message: Message | None = None,
        offsets: list[TopicPartition] | None = None,
        asynchronous: bool = True,
    ) -> list[TopicPartition] | None:
        """Commit offsets: those given, the one after a message, or all positions.

        Both kinds are done when the call returns; only the synchronous one returns the offsets.

        Raises:
            KafkaException: _NO_OFFSET: nothing to commit. UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION: the group went on
                without this consumer.
        """
        self._check_open()
        if message is not None:
            if offsets is not None:
                raise ValueError("message and offsets are mutually exclusive")
            if message.error() is not None:
                raise _error(KafkaError._INVALID_ARG, f"an event has no offset to commit: {message.error()}")
            topic, number, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            offsets = [TopicPartition(topic, number, offset + 1)]
        elif offsets is None:
            offsets = [p for p in self.position(self.assignment()) if p.offset >= 0]
        offsets = [p for p in offsets if p.offset >= 0]
        if not offsets:
            raise _error(KafkaError._NO_OFFSET, "Commit failed: Local: No offset stored")
        with self._log.lock:
            member = self._member
            refused = (
                self._group.verify(member.id, member.generation) if member is not None else self._group.verify("", -1)
            )
            if refused is not None:
                raise KafkaException(refused)
            self._log.commit_offsets(self._group_id, [group_offset(p) for p in offsets])
        return None if asynchronous else offsets

    def committed(self, partitions: list[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        """The group's committed offsets; -1001 where there is none. Never waits."""
        self._check_open()
        found = self._log.committed(self._group_id)
        result = []
        for p in partitions:
            stored = found.get((p.topic, p.partition))
            if stored is None:
                result.append(TopicPartition(p.topic, p.partition, OFFSET_INVALID))
            else:
                result.append(topic_partition(stored))
        return result

    def position(self, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """One past the last record handed out of each partition; -1001 where there was none since assign or seek."""
        self._check_open()
        result = []
        for p in partitions:
            fetch = self._fetches.get((p.topic, p.partition))
            offset = OFFSET_INVALID if fetch is None or fetch.position is None else fetch.position
            result.append(TopicPartition(p.topic, p.partition, offset))
        return result

    def get_watermark_offsets(
        self, partition: TopicPartition, timeout: float = -1, cached: bool = False
    ) -> tuple[int, int]:
        """The first offset and the end; for a read_committed consumer the last stable offset. Never waits.

        Raises:
            KafkaException: _UNKNOWN_PARTITION.
        """
        self._check_open()
        if not cached:
            self._log.refresh()
        found = self._log.partition(partition.topic, partition.partition)
        if found is None:
            text = f"Failed to get watermark offsets: {partition.topic}[{partition.partition}] does not exist"
            raise _error(KafkaError._UNKNOWN_PARTITION, text)
        return found.start, found.stable if self._read_committed else found.end

    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        """For each partition the first offset whose timestamp is at least its ``offset`` (ms); -1 for none.

        Raises:
            KafkaException: _UNKNOWN_PARTITION.
        """
        self._check_open()
        result = []
        for p in partitions:
            answer = TopicPartition(p.topic, p.partition, OFFSET_END)
            found = self._log.partition(p.topic, p.partition)
            if found is None:
                text = f"Failed to get offsets: {p.topic}[{p.partition}] does not exist"
                raise _error(KafkaError._UNKNOWN_PARTITION, text)
            if (hit := self._log.offset_for_time(found, p.offset)) is not None:
                answer.offset = hit[0]
            result.append(answer)
        return result

    # -- the rest --------------------

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> ClusterMetadata:
        """The log's topics, or one of them, which is made if it does not exist. Never waits."""
        self._check_open()
        if topic is not None:
            self._log.topic(topic, create=self._create)
        return cluster_metadata(self._log, topic)

    def consumer_group_metadata(self) -> bytes:
        """The membership, for ``send_offsets_to_transaction``."""
        self._check_open()
        return metadata_of(self._group_id, self._member)

    def memberid(self) -> str | None:
        """The id within the group, or None outside."""
        self._check_open()
        return None if self._member is None else self._member.id

    def close(self) -> None:
        """Leave the group, after ``on_revoke`` has run, and close. A second time does nothing."""
        if self._closed:
            return
        try:
            self._leave()
        finally:
            self._closed = True
            self._fetches = {}
            self._order = []

    def __del__(self) -> None:
        # Without close no callback runs: only the group must not wait for a consumer that is gone.
        member = getattr(self, "_member", None)
        if member is not None:
            with self._log.lock:
                self._group.leave(member)

    def _fetch(self, partition: TopicPartition) -> Fetch:
        self._drained_version = -1
        return Fetch(
            self._log,
            partition.topic,
            partition.partition,
            offset=partition.offset,
            epoch=partition.leader_epoch,
            read_committed=self._read_committed,
            reset=self._reset,
            committed=self._committed_offset,
        )

    def _committed_offset(self, topic: str, number: int) -> int | None:
        found = self._log.committed(self._group_id).get((topic, number))
        return None if found is None else found.offset

    def _reorder(self) -> None:
        self._order = list(self._fetches.values())
        self._drained_version = -1

    def _set_paused(self, partitions: list[TopicPartition], paused: bool) -> None:
        self._check_open()
        for p in partitions:
            fetch = self._fetches.get((p.topic, p.partition))
            if fetch is not None:
                fetch.paused = paused
        self._drained_version = -1

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("Consumer closed")


def group_offset(partition: TopicPartition) -> GroupOffset:
    """A TopicPartition as the log stores it."""
    epoch = -1 if partition.leader_epoch is None else partition.leader_epoch
    return GroupOffset(partition.topic, partition.partition, partition.offset, epoch, partition.metadata)


def topic_partition(stored: GroupOffset) -> TopicPartition:
    """A stored offset as a TopicPartition."""
    optional: dict[str, Any] = {}
    if stored.epoch >= 0:
        optional["leader_epoch"] = stored.epoch
    if stored.metadata is not None:
        optional["metadata"] = stored.metadata
    return TopicPartition(stored.topic, stored.partition, stored.offset, **optional)


def _error(code: int, text: str) -> KafkaException:
    return KafkaException(KafkaError(code, text))
