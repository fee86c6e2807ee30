"""The cluster that other tests stand on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, Producer

from tests.kafka.cluster import Cluster, ExternalCluster


def _round_trip(bootstrap_servers: str, topic: str, count: int) -> list[bytes]:
    errors: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            errors.append(error)

    producer = Producer({"bootstrap.servers": bootstrap_servers, "acks": "all", "log_level": 2})
    for number in range(count):
        producer.produce(topic, str(number).encode(), on_delivery=delivered)
    assert producer.flush(60) == 0
    assert errors == []
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"round-trip-{uuid4().hex}",
            "auto.offset.reset": "earliest",
            "log_level": 2,
        }
    )
    try:
        consumer.subscribe([topic])
        values: list[bytes] = []
        while len(values) < count:
            messages = consumer.consume(1, 60.0)
            assert messages, f"{len(values)} of {count} records came back"
            values += [message.value() or b"" for message in messages]
        return values
    finally:
        consumer.close()


def test_records_make_a_round_trip(kafka_cluster: Cluster | ExternalCluster) -> None:
    topic = kafka_cluster.create_topic(kafka_cluster.unique("round-trip"))
    assert _round_trip(kafka_cluster.bootstrap_servers, topic, 10) == [str(n).encode() for n in range(10)]


def test_three_brokers_survive_the_loss_of_one(kafka_cluster_3: Cluster) -> None:
    topic = kafka_cluster_3.create_topic(kafka_cluster_3.unique("loss"), partitions=3)
    kafka_cluster_3.kill(2)
    try:
        assert kafka_cluster_3.running() == [1, 3]
        values = _round_trip(kafka_cluster_3.bootstrap_servers, topic, 30)
        assert sorted(values) == sorted(str(n).encode() for n in range(30))
    finally:
        kafka_cluster_3.start(2)
    assert set(kafka_cluster_3.admin().list_topics(timeout=10).brokers) == {1, 2, 3}


def test_a_cluster_dies_with_its_owner(tmp_path: Path) -> None:
    """Also when the owner is killed with SIGKILL, no process and no data stays behind. (The watchdog alone.)"""
    data = tmp_path / "data"
    data.mkdir()
    owner = """
import subprocess, sys
from tests.kafka import watchdog
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
command = [sys.executable, watchdog.__file__]
dog = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sys.stdout, text=True, start_new_session=True)
print(f"+{child.pid}", f"d{sys.argv[1]}", sep="\\n", file=dog.stdin, flush=True)
print(child.pid, flush=True)
child.wait()
"""
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", owner, str(data)], stdout=subprocess.PIPE, text=True, cwd=root, start_new_session=True
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    process.stdout.read()  # ends when the watchdog, the last holder of the pipe's other end, has done its work
    process.wait()
    assert not data.exists()
    assert not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split()[2]
