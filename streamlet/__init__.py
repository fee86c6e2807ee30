"""Kafka Streams for Python: a stream-processing library, not a cluster.

Everything public is here; `streamlet.serdes` and `streamlet.testing` are modules of their own.
"""

from streamlet import serdes
from streamlet.clients import supplier_for
from streamlet.config import ProcessingGuarantee, StreamsConfig
from streamlet.dsl import BranchedKStream, KGroupedStream, KStream, KTable, Materialized, StreamsBuilder
from streamlet.errors import (
    ConfigError,
    ControlError,
    InvalidStateStoreError,
    InvalidTopicError,
    LockError,
    MissingSourceTopicError,
    ProductionError,
    SerializationError,
    StartTimeoutError,
    StateMismatchError,
    StateStoreError,
    StreamsError,
    TaskError,
    TaskMigratedError,
    TopologyError,
)
from streamlet.metrics import Counters, Sensor
from streamlet.processor.api import (
    Cancellable,
    FixedKeyProcessor,
    FixedKeyProcessorContext,
    Processor,
    ProcessorContext,
    PunctuationType,
)
from streamlet.processor.timestamps import (
    fail_on_invalid_timestamp,
    log_and_skip_on_invalid_timestamp,
    use_partition_time_on_invalid_timestamp,
    wallclock_timestamp,
)
from streamlet.records import Headers, Record, RecordMetadata, TaskId, Window, Windowed
from streamlet.runtime.handlers import (
    DeadLetter,
    ErrorContext,
    OutputRecord,
    Response,
    Result,
    log_and_continue,
    log_and_fail,
)
from streamlet.runtime.lifecycle import State
from streamlet.runtime.start import start, start_async
from streamlet.runtime.streams import KafkaStreams, StreamThreadExceptionResponse
from streamlet.serdes import Serde
from streamlet.state import (
    KeyValueStore,
    ReadOnlyKeyValueStore,
    StoreBuilder,
    Stores,
    TimestampedKeyValueStore,
    ValueAndTimestamp,
)
from streamlet.testing import TestInputTopic, TestOutputTopic, TopologyTestDriver
from streamlet.topic import Topic, TopicPattern
from streamlet.topology import Topology, TopologyDescription

__all__ = [
    "BranchedKStream",
    "Cancellable",
    "ConfigError",
    "ControlError",
    "Counters",
    "DeadLetter",
    "ErrorContext",
    "FixedKeyProcessor",
    "FixedKeyProcessorContext",
    "Headers",
    "InvalidStateStoreError",
    "InvalidTopicError",
    "KGroupedStream",
    "KStream",
    "KTable",
    "KafkaStreams",
    "KeyValueStore",
    "LockError",
    "Materialized",
    "MissingSourceTopicError",
    "OutputRecord",
    "ProcessingGuarantee",
    "Processor",
    "ProcessorContext",
    "ProductionError",
    "PunctuationType",
    "ReadOnlyKeyValueStore",
    "Record",
    "RecordMetadata",
    "Response",
    "Result",
    "Sensor",
    "Serde",
    "SerializationError",
    "StartTimeoutError",
    "State",
    "StateMismatchError",
    "StateStoreError",
    "StoreBuilder",
    "Stores",
    "StreamThreadExceptionResponse",
    "StreamsBuilder",
    "StreamsConfig",
    "StreamsError",
    "TaskError",
    "TaskId",
    "TaskMigratedError",
    "TestInputTopic",
    "TestOutputTopic",
    "TimestampedKeyValueStore",
    "Topic",
    "TopicPattern",
    "Topology",
    "TopologyDescription",
    "TopologyError",
    "TopologyTestDriver",
    "ValueAndTimestamp",
    "Window",
    "Windowed",
    "fail_on_invalid_timestamp",
    "log_and_continue",
    "log_and_fail",
    "log_and_skip_on_invalid_timestamp",
    "serdes",
    "start",
    "start_async",
    "supplier_for",
    "use_partition_time_on_invalid_timestamp",
    "wallclock_timestamp",
]
