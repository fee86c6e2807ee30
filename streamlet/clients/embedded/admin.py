"""The embedded log's admin client: futures as ``confluent_kafka.admin.AdminClient`` gives them, done at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import (
    ConsumerGroupState,
    ConsumerGroupTopicPartitions,
    ConsumerGroupType,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Node,
    TopicCollection,
    TopicPartition,
    TopicPartitionInfo,
    Uuid,
)
from confluent_kafka.admin import (
    AlterConfigOpType,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    ConsumerGroupDescription,
    ConsumerGroupListing,
    DeletedRecords,
    DescribeClusterResult,
    ListConsumerGroupsResult,
    ListOffsetsResultInfo,
    MemberAssignment,
    MemberDescription,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    TopicDescription,
)
from confluent_kafka.cimpl import OFFSET_SPEC_EARLIEST, OFFSET_SPEC_LATEST, OFFSET_SPEC_MAX_TIMESTAMP

from streamlet.clients.embedded import topic_configs
from streamlet.clients.embedded.broker import Broker
from streamlet.clients.embedded.consumer import group_offset, topic_partition
from streamlet.clients.embedded.groups import Group, Member
from streamlet.clients.embedded.locks import held_elsewhere
from streamlet.clients.embedded.log import Log, Partition, Topic
from streamlet.clients.embedded.metadata import BROKER_ID, cluster_metadata

T = TypeVar("T")

# What a broker of today answers: our groups have both protocols' abilities where streamlet asks for them.
_BROKER_CONFIGS: Mapping[str, str] = {
    "auto.create.topics.enable": "true",
    "group.coordinator.rebalance.protocols": "classic",
    "offsets.retention.minutes": str(2**31 - 1),
}
_EARLIEST, _LATEST, _MAX_TIMESTAMP = (
    OFFSET_SPEC_EARLIEST,
    OFFSET_SPEC_LATEST,
    OFFSET_SPEC_MAX_TIMESTAMP,
)


class AdminClient:
    """Topics, groups and offsets of an embedded log.

    Request and operation timeouts are taken for the interface's sake: every future is done when it is returned.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._log: Log = broker.log
        self._node = Node(BROKER_ID, "embedded", 0)

    # -- topics --------------------

    def create_topics(
        self, new_topics: list[NewTopic], *, validate_only: bool = False, **_: float
    ) -> dict[str, Future[None]]:
        """Make topics. The replication factor is not judged: the log has no replicas."""

        def create(new: NewTopic) -> None:
            count = self._log.default_partitions if new.num_partitions == -1 else new.num_partitions
            self._log.create_topic(new.topic, count, new.config or {}, validate_only=validate_only)

        return {new.topic: _done(create, new) for new in new_topics}

    def delete_topics(self, topics: list[str], **_: float) -> dict[str, Future[None]]:
        """Delete topics with their records and committed offsets."""
        return {topic: _done(self._log.delete_topic, topic) for topic in topics}

    def create_partitions(
        self, new_partitions: list[NewPartitions], *, validate_only: bool = False, **_: float
    ) -> dict[str, Future[None]]:
        """Raise partition counts."""

        def add(new: NewPartitions) -> None:
            self._log.add_partitions(new.topic, new.new_total_count, validate_only=validate_only)

        return {new.topic: _done(add, new) for new in new_partitions}

    def poll(self, timeout: float = -1) -> int:
        """Nothing waits to be told: returns 0."""
        return 0

    def list_topics(self, topic: str | None = None, timeout: float = -1) -> ClusterMetadata:
        """All topics, or one, which is not made."""
        return cluster_metadata(self._log, topic)

    def describe_topics(self, topics: TopicCollection, **_: object) -> dict[str, Future[TopicDescription]]:
        """Topics with their ids."""
        self._log.refresh()
        return {name: _done(self._describe_topic, name) for name in topics.topic_names}

    def _describe_topic(self, name: str) -> TopicDescription:
        topic = self._topic(name)
        partitions = [TopicPartitionInfo(p.number, self._node, [self._node], [self._node]) for p in topic.partitions]
        return TopicDescription(name, uuid_of(topic), False, partitions)

    def describe_cluster(self, **_: object) -> Future[DescribeClusterResult]:
        """The log's own cluster id and its one node."""
        return _done(lambda _: DescribeClusterResult(self._node, [self._node], self._log.cluster_id), None)

    def describe_configs(
        self, resources: list[ConfigResource], **_: float
    ) -> dict[ConfigResource, Future[dict[str, ConfigEntry]]]:
        """The configuration of topics, or of the broker."""
        self._log.refresh()
        return {resource: _done(self._describe_config, resource) for resource in resources}

    def _describe_config(self, resource: ConfigResource) -> dict[str, ConfigEntry]:
        if resource.restype == ConfigResource.Type.BROKER:
            return {
                name: ConfigEntry(name, value, ConfigSource.STATIC_BROKER_CONFIG, is_read_only=True)
                for name, value in _BROKER_CONFIGS.items()
            }
        if resource.restype != ConfigResource.Type.TOPIC:
            raise _error(KafkaError.INVALID_REQUEST, f"an embedded log has topics and a broker, no {resource.restype}")
        given = self._topic(resource.name).config
        entries = {}
        for name, default in topic_configs.DEFAULTS.items():
            source = ConfigSource.DYNAMIC_TOPIC_CONFIG if name in given else ConfigSource.DEFAULT_CONFIG
            entries[name] = ConfigEntry(name, given.get(name, default), source, is_default=name not in given)
        return entries

    def incremental_alter_configs(
        self, resources: list[ConfigResource], *, validate_only: bool = False, **_: float
    ) -> dict[ConfigResource, Future[None]]:
        """Set or delete single configurations of topics."""

        def alter(resource: ConfigResource) -> None:
            config = dict(self._topic(resource.name).config)
            for entry in resource.incremental_configs:
                if entry.incremental_operation == AlterConfigOpType.SET:
                    config[entry.name] = str(entry.value)
                elif entry.incremental_operation == AlterConfigOpType.DELETE:
                    config.pop(entry.name, None)
                else:
                    raise _error(KafkaError.INVALID_REQUEST, f"{entry.name}: only SET and DELETE are supported here")
            topic_configs.checked(resource.name, config)
            if not validate_only:
                self._log.configure_topic(resource.name, config)

        return {resource: _done(alter, resource) for resource in resources}

    def delete_records(
        self, topic_partition_offsets: list[TopicPartition], **_: float
    ) -> dict[TopicPartition, Future[DeletedRecords]]:
        """Delete what is before an offset; -1 deletes all."""

        def delete(p: TopicPartition) -> DeletedRecords:
            return DeletedRecords(self._log.delete_records(self._partition(p), p.offset))

        return {p: _done(delete, p) for p in topic_partition_offsets}

    def list_offsets(
        self, topic_partition_offsets: Mapping[TopicPartition, OffsetSpec], **options: Any
    ) -> dict[TopicPartition, Future[ListOffsetsResultInfo]]:
        """First, last or by time; `isolation_level` decides which end is the last."""
        self._log.refresh()
        committed = options.get("isolation_level") == IsolationLevel.READ_COMMITTED

        def find(item: tuple[TopicPartition, OffsetSpec]) -> ListOffsetsResultInfo:
            partition, spec = self._partition(item[0]), item[1]._value
            if spec == _EARLIEST:
                return ListOffsetsResultInfo(partition.start, -1, partition.epoch)
            if spec == _LATEST:
                return ListOffsetsResultInfo(partition.stable if committed else partition.end, -1, partition.epoch)
            if spec == _MAX_TIMESTAMP:
                found = self._log.newest_timestamp(partition)
            else:
                found = self._log.offset_for_time(partition, spec)
            return ListOffsetsResultInfo(*(found or (-1, -1)), partition.epoch)

        return {p: _done(find, (p, spec)) for p, spec in topic_partition_offsets.items()}

    # -- groups --------------------

    def list_consumer_groups(self, **_: object) -> Future[ListConsumerGroupsResult]:
        """Groups with members or with committed offsets."""

        def find(_: None) -> ListConsumerGroupsResult:
            ids = set(self._log.groups()) | {group.id for group in self._broker.known_groups() if group.members}
            listings = [
                ConsumerGroupListing(id, False, self._state(id), ConsumerGroupType.CLASSIC) for id in sorted(ids)
            ]
            return ListConsumerGroupsResult(listings, [])

        return _done(find, None)

    def describe_consumer_groups(
        self, group_ids: list[str], **_: object
    ) -> dict[str, Future[ConsumerGroupDescription]]:
        """Members with client id and assignment; only those of this process are known."""

        def describe(id: str) -> ConsumerGroupDescription:
            with self._log.lock:
                members = [_member_description(member) for member in self._broker.group(id).members.values()]
            return ConsumerGroupDescription(
                id, False, members, "cooperative-sticky", self._state(id), self._node, type=ConsumerGroupType.CLASSIC
            )

        return {id: _done(describe, id) for id in group_ids}

    def list_consumer_group_offsets(
        self, list_consumer_group_offsets_request: list[ConsumerGroupTopicPartitions], **_: object
    ) -> dict[str, Future[ConsumerGroupTopicPartitions]]:
        """A group's committed offsets, all of them or those asked for."""

        def find(request: ConsumerGroupTopicPartitions) -> ConsumerGroupTopicPartitions:
            stored = self._log.committed(request.group_id)
            if request.topic_partitions is None:
                return ConsumerGroupTopicPartitions(request.group_id, [topic_partition(o) for o in stored.values()])
            answers = []
            for p in request.topic_partitions:
                found = stored.get((p.topic, p.partition))
                answers.append(TopicPartition(p.topic, p.partition) if found is None else topic_partition(found))
            return ConsumerGroupTopicPartitions(request.group_id, answers)

        return {request.group_id: _done(find, request) for request in list_consumer_group_offsets_request}

    def alter_consumer_group_offsets(
        self, alter_consumer_group_offsets_request: list[ConsumerGroupTopicPartitions], **_: object
    ) -> dict[str, Future[ConsumerGroupTopicPartitions]]:
        """Set a group's offsets; refused (UNKNOWN_MEMBER_ID, by the future) while it has members."""

        def alter(request: ConsumerGroupTopicPartitions) -> ConsumerGroupTopicPartitions:
            self._refuse_active(request.group_id, KafkaError.UNKNOWN_MEMBER_ID)
            partitions = request.topic_partitions or []
            self._log.commit_offsets(request.group_id, [group_offset(p) for p in partitions])
            return ConsumerGroupTopicPartitions(request.group_id, partitions)

        return {request.group_id: _done(alter, request) for request in alter_consumer_group_offsets_request}

    def delete_consumer_groups(self, group_ids: list[str], **_: float) -> dict[str, Future[None]]:
        """Forget groups; refused (NON_EMPTY_GROUP) while they have members."""

        def delete(id: str) -> None:
            self._refuse_active(id, KafkaError.NON_EMPTY_GROUP)
            if not self._log.delete_offsets(id):
                raise _error(KafkaError.GROUP_ID_NOT_FOUND, f"group {id} does not exist")

        return {id: _done(delete, id) for id in group_ids}

    def _refuse_active(self, id: str, code: int) -> None:
        group: Group = self._broker.group(id)
        with self._log.lock:
            if group.members or held_elsewhere(self._log, id):
                raise _error(code, f"group {id} has members: stop the application first")

    def _state(self, id: str) -> ConsumerGroupState:
        with self._log.lock:
            if self._broker.group(id).members or held_elsewhere(self._log, id):
                return ConsumerGroupState.STABLE
        return ConsumerGroupState.EMPTY if id in self._log.groups() else ConsumerGroupState.DEAD

    # -- helpers --------------------

    def _topic(self, name: str) -> Topic:
        found = self._log.topic(name)
        if found is None:
            raise _error(KafkaError.UNKNOWN_TOPIC_OR_PART, f"topic {name} does not exist")
        return found

    def _partition(self, p: TopicPartition) -> Partition:
        found = self._log.partition(p.topic, p.partition)
        if found is None:
            raise _error(KafkaError.UNKNOWN_TOPIC_OR_PART, f"{p.topic}[{p.partition}] does not exist")
        return found


def uuid_of(topic: Topic) -> Uuid:
    """A topic's id as confluent-kafka has it."""
    return Uuid(int.from_bytes(topic.uuid[:8], "big", signed=True), int.from_bytes(topic.uuid[8:], "big", signed=True))


def _member_description(member: Member) -> MemberDescription:
    owned: Iterable[tuple[str, int]] = sorted(member.owned)
    partitions = [TopicPartition(topic, number) for topic, number in owned]
    return MemberDescription(member.id, member.client_id, "embedded", MemberAssignment(partitions))


_In = TypeVar("_In")


def _done(work: Callable[[_In], T], argument: _In) -> Future[T]:
    """The work's outcome as a future that is done."""
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()
    try:
        future.set_result(work(argument))
    except KafkaException as error:
        future.set_exception(error)
    return future


def _error(code: int, text: str) -> KafkaException:
    return KafkaException(KafkaError(code, text))
