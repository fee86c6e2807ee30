"""The suppliers that the clients' contract is tested against: the embedded log in memory and in a file, and Kafka."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from confluent_kafka import KafkaError, TopicPartition
from confluent_kafka.admin import NewTopic

from streamlet.clients import AdminClient, ClientSupplier, Consumer, Message, Producer, supplier_for
from streamlet.clients.embedded import discard

# Long enough for a broker that elects a coordinator; nothing waits for it unless something is wrong.
PATIENCE_SECONDS = 30.0


@define
class Lab:
    """A supplier with names of its own, and clients that are closed in the end."""

    supplier: ClientSupplier
    kind: str
    _consumers: list[Consumer] = field(factory=list)
    _producer: Producer | None = None
    _admin: AdminClient | None = None

    @staticmethod
    def unique(prefix: str = "t") -> str:
        return f"{prefix}-{uuid.uuid4().hex[:12]}"

    @property
    def admin(self) -> AdminClient:
        if self._admin is None:
            self._admin = self.supplier.admin({})
        return self._admin

    @property
    def producer(self) -> Producer:
        if self._producer is None:
            self._producer = self.supplier.producer({})
        return self._producer

    def topic(self, partitions: int = 1, **config: str) -> str:
        name = self.unique()
        new = NewTopic(name, partitions, 1, config={key.replace("_", "."): value for key, value in config.items()})
        self.admin.create_topics([new])[name].result(PATIENCE_SECONDS)
        # Kafka answers before every broker knows the topic.
        wait_for(lambda: len(self.admin.list_topics(name, timeout=10).topics[name].partitions) == partitions)
        return name

    def consumer(self, group: str | None = None, **config: Any) -> Consumer:
        settings = {key.replace("_", "."): value for key, value in config.items()}
        consumer = self.supplier.consumer({"group.id": group or self.unique("g"), **settings})
        self._consumers.append(consumer)
        return consumer

    def reader(self, topic: str, partition: int = 0, offset: int = 0, **config: Any) -> Consumer:
        consumer = self.consumer(**config)
        consumer.assign([TopicPartition(topic, partition, offset)])
        return consumer

    def transactional(self, id: str | None = None) -> Producer:
        producer = self.supplier.producer({"transactional.id": id or self.unique("x")})
        producer.init_transactions(PATIENCE_SECONDS)
        return producer

    def send(self, topic: str, *values: bytes | str | None, key: bytes | None = None, partition: int = -1) -> None:
        failed: list[Any] = []
        for value in values:
            self.producer.produce(
                topic, value, key, partition, on_delivery=lambda error, _: failed.append(error) if error else None
            )
        assert self.producer.flush(PATIENCE_SECONDS) == 0
        assert not failed

    def close(self) -> None:
        for consumer in self._consumers:
            consumer.close()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something observable without an event of its own holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not come to hold in time"
        time.sleep(0.01)


def drain(consumer: Consumer, count: int) -> list[Message]:
    """Exactly so many messages, waiting for them."""
    found: list[Message] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {len(found)} of {count} messages came: {found}"
        found += consumer.consume(count - len(found), 0.05)
    return found


def to_the_end(consumer: Consumer) -> list[Message]:
    """Everything up to the end of the partition, without its event; the consumer must have enable.partition.eof."""
    found: list[Message] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for message in consumer.consume(100, 0.05):
            if (error := message.error()) is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error.str()
                return found
            found.append(message)
    raise AssertionError(f"the end was never reached: {found}")


def values(messages: list[Message]) -> list[bytes | None]:
    return [message.value() for message in messages]


@pytest.fixture(params=["memory", "file", pytest.param("kafka", marks=pytest.mark.kafka)])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """The contract's supplier. The kafka leg is this very suite on a real broker."""
    kind: str = request.param
    name = uuid.uuid4().hex
    if kind == "kafka":
        address = request.getfixturevalue("kafka_cluster").bootstrap_servers
    else:
        address = f"embedded:mem:{name}" if kind == "memory" else f"embedded:{tmp_path / 'log.db'}"
    made = Lab(supplier_for(address), kind)
    yield made
    made.close()
    discard(name)


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Lab]:
    """An embedded log in a file, for what a cluster does otherwise or not at all."""
    made = Lab(supplier_for(f"embedded:{tmp_path / 'log.db'}"), "file")
    yield made
    made.close()
