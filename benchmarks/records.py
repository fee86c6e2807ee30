"""The inputs: orders, JSON records of 108 bytes under one of so many keys; or tasks of so many workflows."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from uuid import UUID

from spigot_topologies import topic_cfg
from spigot_topologies.wire import (
    EventHeaders,
    Extensions,
    Headers,
    TaskMessage,
    encode,
    event_headers,
    extension_headers,
)
from streamlet.clients import supplier_for

RECORD_BYTES = 108
_AGE_SECONDS = 3_600  # older ones than a week would fall to retention while they are read
_QUEUED = 20_000


def records(count: int, keys: int) -> Iterator[tuple[bytes, bytes, int]]:
    """Keys, values and timestamps (ms); three of four are `paid`, one comes each millisecond."""
    chosen = random.Random(keys)
    begin = int(time.time() - _AGE_SECONDS) * 1000
    for number in range(count):
        key = chosen.randrange(keys)
        amount = chosen.randrange(100, 1_000_000) / 100
        paid = "true" if number % 4 else "false"
        text = (
            f'{{"id":{number},"customer":"customer-{key:06d}","amount":{amount:.2f},'
            f'"currency":"EUR","paid":{paid},"note":"'
        )
        value = text + "x" * (RECORD_BYTES - 2 - len(text)) + '"}'
        yield b"customer-%06d" % key, value.encode(), begin + number


def tasks(count: int, workflows: int) -> Iterator[tuple[bytes, bytes, int, Headers]]:
    """Keys, values, timestamps (ms) and headers, as a manager writes them."""
    topic = topic_cfg("tasks")
    begin = int(time.time() - _AGE_SECONDS) * 1000
    for number in range(count):
        task_id, run = UUID(int=number), UUID(int=number % workflows)
        workflow = topic.key_serde.serialize(str(run))
        key = topic.key_serde.serialize(task_id)
        message = TaskMessage(None, "seat", {"who": {"id": number}, "spigot/id": task_id}, str(run))
        headers = extension_headers(key, Extensions(run)) + event_headers(EventHeaders(workflow, run, "running", 1))
        yield key, encode(message, topic.codec), begin + number, headers


def load(servers: str, topic: str, count: int, keys: int, what: str = "orders") -> None:
    """Write the input to a topic, which exists, and wait until it is there.

    Raises:
        RuntimeError: Not all of it was taken.
    """
    failed: list[object] = []
    producer = supplier_for(servers).producer(
        {"on_delivery": lambda error, _: failed.append(error) if error else None, "linger.ms": 20}
    )
    made = tasks(count, keys) if what == "tasks" else ((*record, []) for record in records(count, keys))
    for number, (key, value, timestamp, headers) in enumerate(made):
        producer.produce(topic, value, key, 0, timestamp=timestamp, headers=headers)
        if number % _QUEUED == 0:
            producer.flush(60)
    if producer.flush(60) or failed:
        raise RuntimeError(f"the input could not be written to {topic}: {failed[:3]}")
