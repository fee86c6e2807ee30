"""Timestamp extractors: where a record's time comes from.

An extractor gets the record, whose timestamp is the log's, and the partition's time (the highest timestamp so far, -1
before the first record). It returns milliseconds since the epoch; a negative result drops the record.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from streamlet.errors import StreamsError
from streamlet.records import Record

_log = logging.getLogger(__name__)


def fail_on_invalid_timestamp(record: Record[Any, Any], partition_time: int, /) -> int:
    """Take the log's timestamp; the default.

    Raises:
        StreamsError: If it is negative.
    """
    if record.timestamp < 0:
        raise StreamsError(
            f"the record has the invalid timestamp {record.timestamp}: it was written without one. "
            f"Give the source another timestamp_extractor (log_and_skip_on_invalid_timestamp, "
            f"use_partition_time_on_invalid_timestamp)"
        )
    return record.timestamp


def log_and_skip_on_invalid_timestamp(record: Record[Any, Any], partition_time: int, /) -> int:
    """Take the log's timestamp; a record with a negative one is logged and dropped."""
    return record.timestamp


def use_partition_time_on_invalid_timestamp(record: Record[Any, Any], partition_time: int, /) -> int:
    """Take the log's timestamp, or the partition's time if it is negative.

    Raises:
        StreamsError: If the first record of the partition has no valid timestamp.
    """
    if record.timestamp >= 0:
        return record.timestamp
    if partition_time < 0:
        raise StreamsError(
            f"the record has the invalid timestamp {record.timestamp}, and there was none before it in its partition "
            f"to be taken instead"
        )
    return partition_time


def wallclock_timestamp(record: Record[Any, Any], partition_time: int, /) -> int:
    """Take the machine's time at which the record is processed."""
    return time.time_ns() // 1_000_000
