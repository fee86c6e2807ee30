"""Resetting an application: its input is read again from where one says, and what it made of it is deleted.

As Kafka's ``kafka-streams-application-reset`` does it: committed offsets of input topics are set, internal topics are
deleted. Output topics are left alone, and so is local state, except that of this machine when asked: state whose
changelog was deleted belongs to a topic that is no longer there, and is rebuilt (from nothing) wherever it lies.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from threading import Event
from typing import Any, TypeAlias

from attrs import frozen
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from streamlet.clients.supplier import ClientSupplier
from streamlet.config import StreamsConfig
from streamlet.errors import StreamsError
from streamlet.records import TaskId
from streamlet.runtime import settings
from streamlet.runtime.failures import error_of
from streamlet.runtime.internal_topics import Admin
from streamlet.runtime.partitions import TASKS_SUFFIX, tasks_topic, topics_read
from streamlet.state import StateDirectory
from streamlet.time import Clock, SystemClock
from streamlet.topology import Topology, changelog_name, internal_name
from streamlet.topology.nodes import CHANGELOG, REPARTITION

_log = logging.getLogger(__name__)

# as Kafka Streams calls the topics of foreign-key joins: named ones, and numbered ones
_FOREIGN_KEY_TOPIC = re.compile(
    r".+-subscription-(registration|response)-topic|KTABLE-FK-JOIN-SUBSCRIPTION-(REGISTRATION|RESPONSE)-\d{10}-topic"
)
_SECONDS = 30.0
_PAUSE_SECONDS = 0.05

Place: TypeAlias = tuple[str, int]
"""A topic and one of its partitions."""


@frozen
class ToEarliest:
    """Read everything again."""


@frozen
class ToLatest:
    """Read only what comes from now on."""


@frozen
class ToOffset:
    """Read from this offset on, in every partition; the nearest there is, if it is not there."""

    offset: int


@frozen
class ToTime:
    """Read from the first record at or after this time on (ms since the epoch); from the end if there is none."""

    timestamp_ms: int

    @classmethod
    def at(cls, when: datetime) -> ToTime:
        """Return the position of a point in time, which has a zone."""
        return cls((when - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1))

    @classmethod
    def ago(cls, duration: timedelta, clock: Clock | None = None) -> ToTime:
        """Return the position so long before now."""
        return cls((clock or SystemClock()).wall_ms() - duration // timedelta(milliseconds=1))


Position: TypeAlias = ToEarliest | ToLatest | ToOffset | ToTime


@frozen
class OffsetChange:
    """What happens to a committed offset.

    Attributes:
        topic: The input topic.
        partition: Its partition.
        before: The offset committed so far; None if there is none.
        after: The one it is set to.
    """

    topic: str
    partition: int
    before: int | None
    after: int


@frozen
class ResetPlan:
    """What a reset does; `carry_out` does it.

    Attributes:
        application_id: The application.
        offsets: Of its input topics, in order.
        topics: Internal topics to be deleted, in order.
        missing: Input topics that do not exist; nothing is done about them.
        spared: Topics whose names begin like the application's, but belong to another one.
    """

    application_id: str
    offsets: tuple[OffsetChange, ...]
    topics: tuple[str, ...]
    missing: tuple[str, ...]
    spared: tuple[str, ...]


class Reset:
    """Plans and carries out resets of one application.

    Args:
        supplier: Where the application's log is.
        config: Its configuration.
    """

    def __init__(self, supplier: ClientSupplier, config: StreamsConfig) -> None:
        self._config = config
        self._application = config.application_id
        self._client = supplier.admin(settings.admin(config, f"{config.application_id}-reset"))
        self._admin = Admin(self._client, config)

    def plan(
        self,
        topology: Topology | None,
        to: Position,
        *,
        input_topics: Collection[str] = (),
        internal_topics: Collection[str] = (),
    ) -> ResetPlan:
        """Find out what a reset would do, and change nothing.

        Args:
            topology: Says which topics are input; None: those with committed offsets.
            to: Where the input is read from.
            input_topics: Reset the offsets of these only; without a topology also of such as have none yet.
            internal_topics: Delete these only.

        Raises:
            LogUnreachableError: No broker answers.
            StreamsError: The application is running; there is no such topic among its own.
        """
        self._admin.reach()
        self.refuse_if_running()
        existing = self._admin.topics()
        committed = self._committed()
        own, spared = self._internal(topology, existing)
        known = self._inputs(topology, existing, committed, own)
        if topology is None:
            known |= set(input_topics)
        inputs = sorted(_chosen("input topics", input_topics, known, self._application))
        internal = _chosen("internal topics", internal_topics, own, self._application)
        places = [(topic, number) for topic in inputs for number in range(existing.get(topic, 0))]
        after = self._targets(places, to)
        return ResetPlan(
            self._application,
            tuple(OffsetChange(topic, number, committed.get((topic, number)), after[topic, number])
                  for topic, number in places),
            tuple(sorted(internal)),
            tuple(topic for topic in inputs if topic not in existing),
            tuple(sorted(spared)),
        )  # fmt: skip

    def carry_out(self, plan: ResetPlan) -> None:
        """Do it: set the offsets, then delete the topics. If it is cut off in between, do it again.

        Raises:
            StreamsError: The application has been started meanwhile; the log refused, or did not answer.
        """
        self.refuse_if_running()
        # All in one request, which the broker refuses for a group with members. Offsets of internal topics vanish with
        # the topics, a moment later: none of them may point behind the end of a new topic.
        internal = [place for place in self._committed() if place[0] in plan.topics]
        wanted = {(change.topic, change.partition): change.after for change in plan.offsets} | dict.fromkeys(
            internal, 0
        )
        if wanted:
            self._commit(wanted)
        if plan.topics:
            self._delete(plan.topics)

    def refuse_if_running(self) -> None:
        """Check that the application's group has no members.

        Raises:
            StreamsError: It has.
        """
        members = self._admin.members()
        if members:
            raise StreamsError(
                f"application {self._application} is running on {', '.join(members)}: stop all of its instances, then "
                f"reset it. An instance that was killed, or has a group.instance.id, leaves the group after "
                f"consumer.session.timeout.ms"
            )

    # --- what there is ----------------------------------------------------------------------------------------------

    def _committed(self) -> dict[Place, int]:
        request = [ConsumerGroupTopicPartitions(self._application)]
        future = self._client.list_consumer_group_offsets(request, request_timeout=_SECONDS)[self._application]
        try:
            found = future.result(_SECONDS + 1).topic_partitions or []
        except KafkaException as error:
            if error_of(error).code() == KafkaError.GROUP_ID_NOT_FOUND:
                return {}
            raise self._failed("read the committed offsets", error) from error
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}

    def _internal(self, topology: Topology | None, existing: Iterable[str]) -> tuple[set[str], set[str]]:
        """Return the application's internal topics that exist, those of older versions too, and those of others."""
        looks_like = {topic for topic in existing if is_internal_name(self._application, topic)}
        others = self._other_applications(existing)
        theirs = {topic for topic in looks_like if any(topic.startswith(f"{other}-") for other in others)}
        declared: set[str] = set()
        if topology is not None:
            parts = (*topology.sub_topologies, *topology.global_parts)
            declared = {internal_name(self._application, name) for part in parts for name in part.internal}
            declared |= {changelog_name(self._application, s.name) for part in parts for s in part.stores if s.logging}
        own = (looks_like - theirs) | (declared & set(existing))
        return own, theirs - declared

    def _other_applications(self, existing: Iterable[str]) -> set[str]:
        """Return other applications and groups whose names begin like this one's topics."""
        groups = self._client.list_consumer_groups(request_timeout=_SECONDS).result(_SECONDS + 1).valid or []
        names = {group.group_id for group in groups}
        names |= {topic.removesuffix(TASKS_SUFFIX) for topic in existing if topic.endswith(TASKS_SUFFIX)}
        return {name for name in names if name.startswith(f"{self._application}-")}

    def _inputs(
        self, topology: Topology | None, existing: Mapping[str, int], committed: Iterable[Place], own: set[str]
    ) -> set[str]:
        if topology is None:
            tasks = tasks_topic(self._application)
            return {topic for topic, _ in committed} - own - {tasks}
        parts = topology.sub_topologies
        internal = {name: internal_name(self._application, name) for part in parts for name in part.internal}
        named = {topic for part in parts for topic in part.source_topics if topic not in internal}
        matched = {t for part in parts for t in topics_read(part, internal, existing, own | set(internal.values()))}
        return named | (matched - set(internal))

    def _targets(self, places: list[Place], to: Position) -> dict[Place, int]:
        begins, ends = self._admin.offsets(places, end=False), self._admin.offsets(places, end=True)
        match to:
            case ToEarliest():
                return begins
            case ToLatest():
                return ends
            case ToOffset(offset):
                return {place: min(max(offset, begins[place]), ends[place]) for place in places}
            case ToTime(timestamp):
                return {place: at if at >= 0 else ends[place] for place, at in self._at(places, timestamp).items()}

    def _at(self, places: list[Place], timestamp: int) -> dict[Place, int]:
        if not places:
            return {}
        spec = OffsetSpec.for_timestamp(max(timestamp, 0))
        wanted = {TopicPartition(topic, number): spec for topic, number in places}
        found: dict[Place, int] = {}
        for p, future in self._client.list_offsets(wanted, request_timeout=_SECONDS).items():
            found[p.topic, p.partition] = self._waited(f"find an offset of {p.topic}[{p.partition}]", future).offset
        return found

    # --- changing ---------------------------------------------------------------------------------------------------

    def _commit(self, wanted: Mapping[Place, int]) -> None:
        partitions = [TopicPartition(topic, number, offset) for (topic, number), offset in sorted(wanted.items())]
        request = [ConsumerGroupTopicPartitions(self._application, partitions)]
        future = self._client.alter_consumer_group_offsets(request, request_timeout=_SECONDS)[self._application]
        for p in self._waited("set the offsets", future).topic_partitions or []:
            if p.error is not None:
                raise StreamsError(f"could not set the offset of {p.topic}[{p.partition}]: {p.error.str()}")

    def _delete(self, topics: Collection[str]) -> None:
        for topic, future in self._client.delete_topics(list(topics), operation_timeout=_SECONDS).items():
            try:
                future.result(_SECONDS + 1)
            except KafkaException as error:
                if error_of(error).code() != KafkaError.UNKNOWN_TOPIC_OR_PART:  # it is gone already
                    raise self._failed(f"delete topic {topic}", error) from error
            _log.info("deleted topic %s", topic)
        self._until(lambda: not set(topics) & set(self._admin.topics()), f"topics {', '.join(topics)} are still there")
        # The coordinator forgets their offsets a moment later; not the ones of an application that was started since.
        self._until(
            lambda: not any(topic in topics for topic, _ in self._committed()),
            f"offsets of {', '.join(topics)} are still there",
        )

    def _until(self, condition: Callable[[], bool], fault: str) -> None:
        pause = Event()  # brokers learn of it by themselves: there is nothing to wait for but time
        for _ in range(int(_SECONDS / _PAUSE_SECONDS)):
            if condition():
                return
            pause.wait(_PAUSE_SECONDS)
        raise StreamsError(f"{fault} after {_SECONDS:g} s: reset again")

    def _waited(self, what: str, future: Any) -> Any:
        try:
            return future.result(_SECONDS + 1)
        except KafkaException as error:
            raise self._failed(what, error) from error

    def _failed(self, what: str, error: KafkaException) -> StreamsError:
        return StreamsError(f"could not {what} of application {self._application}: {error_of(error).str()}")


def is_internal_name(application_id: str, topic: str) -> bool:
    """Tell whether a topic is called like an internal one of an application: by its prefix and how it ends."""
    if not topic.startswith(f"{application_id}-"):
        return False
    name = topic.removeprefix(f"{application_id}-")
    if topic == tasks_topic(application_id) or name.endswith((CHANGELOG, REPARTITION)):
        return True
    return _FOREIGN_KEY_TOPIC.fullmatch(name) is not None


def clean_local_state(directory: StateDirectory, on_delete: Callable[[TaskId], None] = lambda _: None) -> None:
    """Delete the state of all tasks of an application on this machine; the directory may then be used with another log.

    Raises:
        StateStoreError: It cannot be deleted.
    """
    for task in directory.existing_tasks():
        directory.delete_task(task)
        on_delete(task)
    directory.forget_log()


def _chosen(what: str, wanted: Collection[str], known: set[str], application_id: str) -> set[str]:
    strange = sorted(set(wanted) - known)
    if strange:
        listed = ", ".join(sorted(known)) or "none"
        raise StreamsError(
            f"{', '.join(strange)}: not among the {what} of application {application_id}, which are: {listed}"
        )
    return set(wanted) or known
