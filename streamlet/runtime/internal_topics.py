"""The application's own topics: made if they are missing, checked if they are there.

Names and configs are those of Kafka Streams; the tasks topic is ours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from threading import Event
from time import monotonic
from typing import Any, TypeVar

from confluent_kafka import (
    ConsumerGroupState,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import ConfigResource, NewPartitions, NewTopic, OffsetSpec, ResourceType

from streamlet.config import StreamsConfig
from streamlet.errors import InvalidTopicError, LogUnreachableError, StreamsError
from streamlet.runtime.failures import error_of, is_busy
from streamlet.runtime.partitions import Layout, tasks_topic

_log = logging.getLogger(__name__)
T = TypeVar("T")

_TIMEOUT_SECONDS = 30.0
_ATTEMPT_SECONDS = 5.0
_PAUSE_SECONDS = 0.05
_ATTEMPTS = 8

_SECURITY = (KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED)

_REPARTITION: Mapping[str, str] = {
    "cleanup.policy": "delete",
    "segment.bytes": "52428800",
    "retention.ms": "-1",
    "message.timestamp.type": "CreateTime",
}
_TASKS: Mapping[str, str] = {"cleanup.policy": "compact"}


class Admin:
    """The admin client's calls that the runtime needs, waited for.

    Args:
        client: The client.
        config: The application's configuration.
        heard: Where the client's ``error_cb`` puts what it is told.

    Raises (all methods):
        StreamsError: The log did not answer in time, or refused.
    """

    def __init__(self, client: Any, config: StreamsConfig, heard: Sequence[KafkaError] = ()) -> None:
        self.client = client
        self._config = config
        self._heard = heard
        self._seconds = _TIMEOUT_SECONDS

    def be_patient(self, seconds: float | None = None) -> None:
        """Set how long a call may take, in seconds; None is the default of 30."""
        self._seconds = _TIMEOUT_SECONDS if seconds is None else min(max(seconds, 0.1), _TIMEOUT_SECONDS)

    def reach(self) -> None:
        """Wait until the log answers at all.

        Raises:
            LogUnreachableError: It does not.
        """
        try:
            self.client.list_topics(timeout=self._seconds)
        except KafkaException as error:
            self.client.poll(0)  # a call that timed out does not say why: the password was refused, for one
            cause = next((e for e in self._heard if e.code() in _SECURITY), error_of(error))
            raise LogUnreachableError(
                f"no broker answers at {self._config.bootstrap_servers} within {self._seconds:g} s: check "
                f"bootstrap.servers, the network and the security settings ({cause.str()})"
            ) from error

    def cluster_id(self) -> str:
        """Return the identity of the log; repeat while brokers come and go."""

        def ask(seconds: float) -> str:
            return str(
                self._result("describe the cluster", self.client.describe_cluster(request_timeout=seconds)).cluster_id
            )

        return self._asking_anew(ask)

    def topics(self) -> dict[str, int]:
        """Return all topics and their numbers of partitions."""
        try:
            found = self.client.list_topics(timeout=self._seconds).topics
        except KafkaException as error:
            raise StreamsError(
                f"{self._config.bootstrap_servers} did not answer within {self._seconds:g} s: {error_of(error).str()}"
            ) from error
        return {
            name: len(topic.partitions) for name, topic in found.items() if topic.error is None and topic.partitions
        }

    def create(self, wanted: Mapping[str, tuple[int, Mapping[str, str]]]) -> None:
        """Make topics (name to number of partitions and configs; -1 is the log's default); wait for leaders."""
        if not wanted:
            return
        topics = [
            NewTopic(
                name,
                num_partitions=partitions,
                replication_factor=self._config.replication_factor,
                config=dict(configs),
            )
            for name, (partitions, configs) in wanted.items()
        ]
        self._asking_anew(lambda seconds: self._create_now(topics, seconds))
        self._await_partitions({name: max(partitions, 1) for name, (partitions, _) in wanted.items()})

    def _create_now(self, topics: list[NewTopic], seconds: float) -> None:
        for name, future in self.client.create_topics(topics, request_timeout=seconds).items():
            try:
                future.result(seconds + 1)
                _log.info("created topic %s", name)
            except FutureTimeoutError as error:
                raise LogBusyError(f"topic {name} was not created within {seconds:g} s") from error
            except KafkaException as error:
                if (
                    error_of(error).code() != KafkaError.TOPIC_ALREADY_EXISTS
                ):  # by another instance, or the last attempt
                    kind = LogBusyError if is_busy(error_of(error)) else StreamsError
                    raise kind(f"topic {name} could not be created: {error_of(error).str()}") from error

    def grow(self, topic: str, partitions: int) -> None:
        """Raise the number of partitions of a topic; nothing happens if it has as many."""
        try:
            futures = self.client.create_partitions([NewPartitions(topic, partitions)], request_timeout=self._seconds)
            futures[topic].result(self._seconds + 1)
        except (KafkaException, FutureTimeoutError) as error:
            if self.topics().get(topic, 0) < partitions:
                why = error_of(error).str() if isinstance(error, KafkaException) else "no answer"
                raise StreamsError(f"topic {topic} could not be extended: {why}") from error
        self._await_partitions({topic: partitions})

    def configs(self, topics: Iterable[str]) -> dict[str, dict[str, str]]:
        """Return the configs of topics; repeat while brokers come and go."""
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
        return self._asking_anew(lambda seconds: self._configs_now(resources, seconds)) if resources else {}

    def _configs_now(self, resources: list[ConfigResource], seconds: float) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for resource, future in self.client.describe_configs(resources, request_timeout=seconds).items():
            entries = self._result(f"describe the configs of topic {resource.name}", future)
            found[resource.name] = {name: entry.value for name, entry in entries.items()}
        return found

    def _asking_anew(self, call: Callable[[float], T]) -> T:
        """Repeat a call in short attempts, and have the client ask anew who is there in between.

        Args:
            call: Gets the seconds it may take.
        """
        seconds = min(self._seconds, _ATTEMPT_SECONDS)

        def attempt() -> T:
            try:
                return call(seconds)
            except LogBusyError:
                self._ask_who_is_there()
                raise

        return _patiently(attempt)

    def _ask_who_is_there(self) -> None:
        """After brokers went, the client asks leaders by old metadata, and waits for a controller that is gone."""
        with suppress(StreamsError):  # no answer now either
            self.topics()

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Return the identities of topics: a topic that is deleted and made again has another."""
        names = list(topics)
        if not names:
            return {}
        futures = self.client.describe_topics(TopicCollection(names), request_timeout=self._seconds)
        return {name: str(self._result(f"describe topic {name}", future).topic_id) for name, future in futures.items()}

    def offsets(self, partitions: Iterable[tuple[str, int]], *, end: bool) -> dict[tuple[str, int], int]:
        """Return the first offsets of partitions, or their ends with uncommitted records; repeat while leaders move."""
        places = list(partitions)
        return _patiently(lambda: self.offsets_now(places, end=end))

    def offsets_now(self, partitions: Iterable[tuple[str, int]], *, end: bool) -> dict[tuple[str, int], int]:
        """As `offsets`, but without repeating.

        Raises:
            LogBusyError: A leader does not answer now.
        """
        return {place: found.offset for place, found in self._offsets_now(partitions, end=end).items()}

    def ends_now(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int | None]]:
        """Return the ends of partitions with uncommitted records, and the latest leader epochs, if the log tells them.

        Raises:
            LogBusyError: A leader does not answer now.
        """
        return {
            place: (found.offset, None if found.leader_epoch is None or found.leader_epoch < 0 else found.leader_epoch)
            for place, found in self._offsets_now(partitions, end=True).items()
        }

    def _offsets_now(self, partitions: Iterable[tuple[str, int]], *, end: bool) -> dict[tuple[str, int], Any]:
        spec = OffsetSpec.latest() if end else OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # confluent-kafka's
        wanted = {TopicPartition(topic, partition): spec for topic, partition in partitions}
        if not wanted:
            return {}
        found: dict[tuple[str, int], Any] = {}
        try:
            futures = self.client.list_offsets(
                wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=_ATTEMPT_SECONDS
            )
            for p, future in futures.items():
                found[p.topic, p.partition] = self._result(f"find the offsets of {p.topic}[{p.partition}]", future)
        except StreamsError as error:
            self._ask_who_is_there()
            raise LogBusyError(str(error)) from error
        unknown = [place for place, at in found.items() if at.offset < 0]
        if unknown:
            raise LogBusyError(
                f"could not find the offsets of {unknown[0][0]}[{unknown[0][1]}]: its leader does not answer"
            )
        return found

    def group(self) -> Any:
        """Return the description of the application's group, None if there is no such group."""
        seconds = min(self._seconds, _ATTEMPT_SECONDS)
        futures = self.client.describe_consumer_groups([self._config.application_id], request_timeout=seconds)
        try:
            return futures[self._config.application_id].result(seconds + 1)
        except FutureTimeoutError as error:
            raise LogBusyError(f"the group could not be described within {seconds:g} s") from error
        except KafkaException as error:
            if error_of(error).code() == KafkaError.GROUP_ID_NOT_FOUND:
                return None
            kind = LogBusyError if is_busy(error_of(error)) else StreamsError
            raise kind(f"the group could not be described: {error_of(error).str()}") from error

    def members(self) -> list[str]:
        """Return the client ids and hosts of the application's group; repeat while its coordinator moves."""
        group = _patiently(self.group)
        if group is None or group.state in (ConsumerGroupState.DEAD, ConsumerGroupState.EMPTY):
            return []
        return [f"{member.client_id} ({member.host})" for member in group.members] or ["another process"]

    def delete_before(self, offsets: Mapping[tuple[str, int], int]) -> list[Future[Any]]:
        """Ask to delete the records before these offsets, without waiting for it."""
        wanted = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        return list(self.client.delete_records(wanted).values()) if wanted else []

    def _await_partitions(self, wanted: Mapping[str, int]) -> None:
        pause = Event()  # metadata spread by themselves: there is nothing to wait for but time
        for _ in range(int(self._seconds / _PAUSE_SECONDS)):
            topics = self.client.list_topics(timeout=self._seconds).topics
            if all(
                name in topics
                and topics[name].error is None
                and sum(p.leader >= 0 for p in topics[name].partitions.values()) >= count
                for name, count in wanted.items()
            ):
                return
            pause.wait(_PAUSE_SECONDS)
        raise StreamsError(f"topics {', '.join(wanted)} had no leaders after {self._seconds:g} s: are the brokers up?")

    def _result(self, what: str, future: Future[T]) -> T:
        try:
            return future.result(self._seconds + 1)
        except FutureTimeoutError as error:
            raise LogBusyError(f"could not {what}: no answer from {self._config.bootstrap_servers}") from error
        except KafkaException as error:
            kind = LogBusyError if is_busy(error_of(error)) else StreamsError
            raise kind(f"could not {what}: {error_of(error).str()}") from error


class LogBusyError(StreamsError):
    """The log did not answer in time; the same call may succeed later."""


def _patiently(call: Callable[[], T]) -> T:
    """Repeat a call while leaders and coordinators move."""
    pause = Event()  # they move by themselves: there is nothing to wait for but time
    began = monotonic()
    attempt = 0
    while True:
        try:
            return call()
        except LogBusyError as error:
            # brokers that are back from a crash may tell of leaders as they were before it, for many seconds
            if attempt >= _ATTEMPTS and monotonic() - began > _TIMEOUT_SECONDS:
                raise
            _log.info("%s", error)
            pause.wait(min(0.05 * 2**attempt, 2.0))
            attempt += 1


def prepare(layout: Layout, existing: Mapping[str, int], admin: Admin, config: StreamsConfig) -> None:
    """Make the internal topics that do not exist; check cleanup policies and retention of those that do.

    Raises:
        InvalidTopicError: A topic exists whose configuration would lose data.
    """
    wanted: dict[str, tuple[int, Mapping[str, str]]] = {}
    for topic, count in layout.repartition.items():
        wanted[topic] = (count, {**_REPARTITION, **config.topic_configs})
    for topic, (store, count) in layout.changelogs.items():
        wanted[topic] = (count, store.changelog_config(config))
    wanted[tasks_topic(config.application_id)] = (max(len(layout.tasks), 1), _TASKS)

    present = {topic: wanted[topic][1] for topic in wanted if topic in existing}
    for topic, configs in admin.configs(present).items():
        _check_policy(topic, configs.get("cleanup.policy", "delete"), present[topic].get("cleanup.policy", "delete"))
        _check_times(topic, configs, present[topic])
    admin.create({topic: details for topic, details in wanted.items() if topic not in existing})


def _check_policy(topic: str, found: str, needed: str) -> None:
    have = {part.strip() for part in found.split(",")}
    want = {part.strip() for part in needed.split(",")}
    # "compact,delete" asked for and "compact" found keeps too much, which is no loss; everything else is
    if have != want and not ("compact" in want and have == {"compact"}):
        raise InvalidTopicError(
            f"internal topic {topic} has cleanup.policy {found!r}, but the topology needs {needed!r}: "
            f"records would get lost. Set it with kafka-configs, or delete the topic if its data is not needed"
        )


def _check_times(topic: str, found: Mapping[str, str], needed: Mapping[str, str]) -> None:
    """Check that records are kept as long as the topology needs them; longer does no harm."""
    deletes = "delete" in found.get("cleanup.policy", "delete")
    for name, counts in (("retention.ms", deletes), ("min.compaction.lag.ms", True)):
        if not counts or name not in needed or name not in found:
            continue
        kept, wanted = int(found[name]), int(needed[name])
        if kept != -1 and (wanted == -1 or kept < wanted):
            raise InvalidTopicError(
                f"internal topic {topic} has {name} {kept}, but the topology needs {wanted}: records would get lost "
                f"before their time. Set it: kafka-configs --alter --entity-type topics --entity-name {topic} "
                f"--add-config {name}={wanted}"
            )
