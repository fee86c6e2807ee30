"""Where a task's sinks write: to the thread's outputs, and to the production exception handler what those refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException

from streamlet.config import StreamsConfig
from streamlet.errors import ProductionError
from streamlet.metrics import Sensor
from streamlet.records import Headers
from streamlet.runtime.failures import error_of, is_busy
from streamlet.runtime.handlers import ErrorContext, OutputRecord, Response, Result, ask, log_and_fail
from streamlet.runtime.outputs import Outputs
from streamlet.runtime.task import Direct

if TYPE_CHECKING:
    from streamlet.runtime.task import Task

_NO_TOPIC = (KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART)


class ProducerCollector:
    """The collector of one task; see `streamlet.runtime.task.Collector`."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs
        self.direct = Direct(outputs.producer.produce, outputs.report, self.send)
        self._counts: dict[str, int] = {}
        self.task: Task | None = None

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        timestamp: int,
        headers: Headers,
        partition: int | None,
        node: str,
        /,
    ) -> None:
        try:
            self._outputs.send(topic, key, value, timestamp, headers, partition)
        except KafkaException as error:
            self._refused(OutputRecord(topic, key, value, timestamp, headers, partition), error, node)

    def refresh(self) -> None:
        """Take note that the thread's outputs report otherwise than before."""
        self.direct.produce = self._outputs.producer.produce
        self.direct.report = self._outputs.report

    def partition_count(self, topic: str, /) -> int:
        count = self._counts.get(topic)
        if count is None:
            count = self._counts[topic] = self._outputs.partition_count(topic)
        return count

    def _refused(self, record: OutputRecord, error: KafkaException, node: str) -> None:
        task = self.task
        assert task is not None
        if settle(task.config, self._outputs, task.error_context(node), record, error):
            self.send(record.topic, record.key, record.value, record.timestamp, record.headers, record.partition, node)
            return
        task.dropped(node, "production error")


def settle(
    config: StreamsConfig, outputs: Outputs, context: ErrorContext, record: OutputRecord, error: KafkaException
) -> bool:
    """Ask the production exception handler about a record that the log refused; tell whether to write it again.

    Raises:
        ProductionError: The handler chose to fail.
    """
    response: Response = ask(config.production_exception_handler or log_and_fail, context, record, error)
    for letter in response.dead_letters:
        outputs.send(letter.topic, letter.key, letter.value, letter.timestamp, letter.headers, None)
    if response.result is Result.RETRY and is_busy(error_of(error)):
        return True
    if response.result is Result.CONTINUE:
        return False
    cause = error_of(error)
    where = context if context.topic is not None else f"node {context.node}, task {context.task}"
    hint = f"; create it: streamlet topics --create {record.topic} -p PARTITIONS" if cause.code() in _NO_TOPIC else ""
    raise ProductionError(
        f"topic {record.topic} refused a record ({where}): {cause.name()}: {cause.str()}{hint}"
    ) from error


def count_dropped(sensor: Sensor, context: ErrorContext) -> None:
    """Tell the sensor that a record was given up after the log had refused it."""
    sensor.on_dropped(str(context.task), context.node or "", "production error")
