"""The log's topics in confluent-kafka's metadata classes."""

from __future__ import annotations

from confluent_kafka import KafkaError
from confluent_kafka.admin import BrokerMetadata, ClusterMetadata, PartitionMetadata, TopicMetadata

from streamlet.clients.embedded.log import Log, Topic

BROKER_ID = 0


def cluster_metadata(log: Log, topic: str | None = None) -> ClusterMetadata:
    """What ``list_topics`` returns; a single topic that does not exist carries an error."""
    log.refresh()
    cluster = ClusterMetadata()
    cluster.cluster_id = log.cluster_id  # type: ignore[assignment]  # annotated by its None default
    cluster.controller_id = cluster.orig_broker_id = BROKER_ID
    cluster.orig_broker_name = log.name  # type: ignore[assignment]  # annotated by its None default
    broker = BrokerMetadata()
    broker.id = BROKER_ID
    broker.host = "embedded"  # type: ignore[assignment]  # annotated by its None default
    broker.port = 0
    cluster.brokers = {BROKER_ID: broker}
    with log.lock:
        if topic is None:
            cluster.topics = {name: _topic_metadata(found) for name, found in log.topics.items()}
        elif topic in log.topics:
            cluster.topics = {topic: _topic_metadata(log.topics[topic])}
        else:
            missing = TopicMetadata()
            missing.topic = topic
            missing.error = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)
            cluster.topics = {topic: missing}
    return cluster


def _topic_metadata(topic: Topic) -> TopicMetadata:
    found = TopicMetadata()
    found.topic = topic.name
    for partition in topic.partitions:
        one = PartitionMetadata()
        one.id = partition.number
        one.leader = BROKER_ID
        one.replicas = [BROKER_ID]
        one.isrs = [BROKER_ID]
        found.partitions[partition.number] = one
    return found
