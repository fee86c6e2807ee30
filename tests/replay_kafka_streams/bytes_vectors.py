"""Vectors of bytes: serdes, keys of stores, partitions, hashes."""

from __future__ import annotations

from typing import Any

from tests.replay_kafka_streams.verdict import OutOfScopeError


def replay(vector: dict[str, Any]) -> None:
    """Compare one vector."""
    raise OutOfScopeError("vector")
