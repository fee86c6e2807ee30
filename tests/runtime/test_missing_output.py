"""What is said of an output topic that does not exist."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamlet.config import StreamsConfig
from streamlet.errors import ProductionError
from streamlet.records import TaskId
from streamlet.runtime.collector import settle
from streamlet.runtime.handlers import ErrorContext, OutputRecord


@pytest.mark.parametrize("code", [KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART])
def test_the_error_says_how_to_create_it(code: int) -> None:
    config = StreamsConfig.parse({"application.id": "a", "bootstrap.servers": "embedded:"})
    context = ErrorContext("sink", TaskId(0, 1), None, 0, (), None, None, None, None, None)
    record = OutputRecord("counts", b"k", b"v", 0, ())
    outputs: Any = None  # there are no dead letters
    with pytest.raises(ProductionError, match="create it: streamlet topics --create counts -p PARTITIONS"):
        settle(config, outputs, context, record, KafkaException(KafkaError(code)))
