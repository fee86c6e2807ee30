"""What the examples share: writing to a topic and reading from one, as any program beside the application would.

The clients are confluent-kafka's, or ones of the same interface for the embedded log.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TypeVar
from uuid import uuid4

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.cimpl import NewTopic

from streamlet import Record, Topic
from streamlet.clients import supplier_for

K = TypeVar("K")
V = TypeVar("V")


def create_topics(address: str, names: Iterable[str], partitions: int = 1) -> None:
    """Make topics that are not there yet. The embedded log would make them on first use; most clusters do not."""
    admin = supplier_for(address).admin({})  # kept until the answers are in: without it they never come
    made = admin.create_topics([NewTopic(name, partitions, -1) for name in names])
    for future in made.values():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def write(address: str, topic: Topic[K, V], records: Iterable[tuple[K, V]]) -> None:
    """Write keys and values to a topic."""
    producer = supplier_for(address).producer({})
    for key, value in records:
        producer.produce(topic.name, topic.value_serde.serialize(value), topic.key_serde.serialize(key))
        producer.poll(0)
    producer.flush()


def read(address: str, topic: Topic[K, V], count: int, seconds: float = 30) -> list[Record[K, V]]:
    """Read the first `count` records of a topic, waiting for them if need be.

    Raises:
        TimeoutError: They did not come in time.
    """
    consumer = supplier_for(address).consumer({"group.id": f"reader-{uuid4()}", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic.name])
    records: list[Record[K, V]] = []
    deadline = time.monotonic() + seconds
    try:
        while len(records) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"topic {topic.name} has {len(records)} records after {seconds:g} s, not {count}")
            for message in consumer.consume(count - len(records), timeout=0.2):
                key, value = message.key(), message.value()
                if message.error() is None and key is not None and value is not None:
                    record = Record(
                        topic.key_serde.deserialize(key), topic.value_serde.deserialize(value), message.timestamp()[1],
                        tuple(message.headers() or ()),
                    )  # fmt: skip
                    records.append(record)
    finally:
        consumer.close()
    return records
