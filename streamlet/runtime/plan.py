"""The plan of tasks: which partition of the tasks topic stands for which task, and of which topology.

All members must agree on it. Partition 0 of the tasks topic is the log of plans: each record extends or replaces the
one it is based on, and one that is based on another than the latest accepted was too late and counts for nothing. Keys
are unique, so that compaction leaves them all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import uuid4

from attrs import frozen
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streamlet.clients.supplier import ClientSupplier
from streamlet.config import StreamsConfig
from streamlet.errors import StreamsError, TopologyError
from streamlet.records import TaskId
from streamlet.runtime import settings
from streamlet.runtime.failures import is_busy
from streamlet.runtime.internal_topics import Admin
from streamlet.runtime.partitions import tasks_topic

_FORMAT = 1
_TIMEOUT_SECONDS = 30.0
PLAN_KEY = b"plan-"
SHUTDOWN_KEY = b"shutdown"


@frozen
class TaskPlan:
    """The tasks of an application; the position of a task is its partition of the tasks topic.

    Attributes:
        fingerprint: Of the topology.
        tasks: In the order of the partitions.
        offset: Of the record that says so.
    """

    fingerprint: str
    tasks: tuple[TaskId, ...]
    offset: int = -1

    def task(self, partition: int) -> TaskId | None:
        """Return the task of a partition of the tasks topic; None: it stands for none (no longer, or not yet)."""
        return self.tasks[partition] if 0 <= partition < len(self.tasks) else None

    def encode(self) -> bytes:
        """Return the record's value, for a plan to be based on the one at `offset`."""
        text = {
            "format": _FORMAT,
            "topology": self.fingerprint,
            "base": self.offset,
            "tasks": [str(t) for t in self.tasks],
        }
        return json.dumps(text).encode()


def extended(plan: TaskPlan, tasks: Iterable[TaskId]) -> TaskPlan:
    """Return the plan with those of the tasks appended that it lacks; those it has keep their partitions."""
    known = set(plan.tasks)
    return TaskPlan(plan.fingerprint, (*plan.tasks, *(task for task in tasks if task not in known)), plan.offset)


def fold(records: Iterable[tuple[int, bytes | None, bytes | None]]) -> TaskPlan | None:
    """Return the plan that records (offset, key, value) of partition 0 add up to.

    Raises:
        StreamsError: If a record was written by a later version of this library.
    """
    accepted: TaskPlan | None = None
    for offset, key, value in records:
        if key is None or value is None or not key.startswith(PLAN_KEY):
            continue
        text: dict[str, Any] = json.loads(value)
        if text["format"] != _FORMAT:
            raise StreamsError(
                f"the plan of tasks has format {text['format']}, this version of streamlet reads {_FORMAT}: upgrade"
            )
        if text["base"] == (-1 if accepted is None else accepted.offset):
            accepted = TaskPlan(text["topology"], tuple(TaskId.parse(task) for task in text["tasks"]), offset)
    return accepted


class PlanLog:
    """Reads and writes the plan in partition 0 of an application's tasks topic."""

    def __init__(self, supplier: ClientSupplier, config: StreamsConfig, client_id: str, admin: Admin) -> None:
        self._supplier = supplier
        self._admin = admin
        self._config = config
        self._client_id = client_id
        self._topic = tasks_topic(config.application_id)

    def read(self) -> TaskPlan | None:
        """Return the plan that holds, None if there is none yet.

        Raises:
            StreamsError: If the log does not answer.
        """
        return fold(self._records())

    def agree(self, fingerprint: str, tasks: Sequence[TaskId], members: Callable[[], list[str]]) -> TaskPlan:
        """Return the plan that holds, after seeing to it that it has all these tasks.

        Args:
            fingerprint: Of the topology at hand.
            tasks: What it needs.
            members: Returns the members of the group: a plan of another topology may be replaced only if there are
                none.

        Raises:
            TopologyError: The group runs another topology.
        """
        while True:
            plan = self.read()
            if plan is None:
                wanted = TaskPlan(fingerprint, tuple(tasks))
            elif plan.fingerprint == fingerprint:
                wanted = extended(plan, tasks)
            else:
                running = members()
                if running:
                    raise TopologyError(
                        f"application {self._config.application_id} is running with another topology (fingerprint "
                        f"{plan.fingerprint}, this one has {fingerprint}) on {', '.join(running)}: stop all of its "
                        f"instances before you start the new version, or give this one another application.id. "
                        f"An instance that was killed leaves the group after consumer.session.timeout.ms"
                    )
                wanted = TaskPlan(fingerprint, tuple(tasks), plan.offset)
            if plan is not None and wanted == plan:
                return plan
            self._write(0, PLAN_KEY + uuid4().hex.encode(), wanted.encode())

    def shut_down(self, partitions: int, reason: str) -> None:
        """Tell every member, through every partition of the tasks topic, to shut down."""
        for partition in range(partitions):
            self._write(partition, SHUTDOWN_KEY, reason.encode())

    def _write(self, partition: int, key: bytes, value: bytes) -> None:
        failures: list[KafkaError] = []
        producer = self._supplier.producer(settings.producer(self._config, f"{self._client_id}-plan"))
        producer.produce(
            self._topic, value, key, partition, on_delivery=lambda error, _: failures.append(error) if error else None
        )
        left = producer.flush(_TIMEOUT_SECONDS)
        if left or failures:
            why = failures[0].str() if failures else "the log did not answer in time"
            raise StreamsError(f"topic {self._topic} could not be written: {why}")

    def _records(self) -> list[tuple[int, bytes | None, bytes | None]]:
        config = settings.reader(self._config, f"{self._client_id}-plan", isolation_level="read_uncommitted")
        consumer = self._supplier.consumer(config)
        records: list[tuple[int, bytes | None, bytes | None]] = []
        try:
            begin = self._admin.offsets([(self._topic, 0)], end=False)[self._topic, 0]
            end = self._admin.offsets([(self._topic, 0)], end=True)[self._topic, 0]
            if begin == end:
                return records
            consumer.assign([TopicPartition(self._topic, 0, begin)])
            while not records or records[-1][0] + 1 < end:
                messages = consumer.consume(1, _TIMEOUT_SECONDS)
                if not messages:
                    raise StreamsError(f"topic {self._topic} could not be read within {_TIMEOUT_SECONDS:.0f} s")
                for message in messages:
                    error = message.error()
                    if error is None:
                        records.append((message.offset() or 0, message.key(), message.value()))
                    elif error.code() == KafkaError._PARTITION_EOF:
                        return records
                    elif not is_busy(error):
                        raise StreamsError(f"topic {self._topic} could not be read: {error.str()}") from KafkaException(
                            error
                        )
            return records
        finally:
            consumer.close()
