"""Operations on a versioned store, with their return codes."""

from __future__ import annotations

from typing import Any

from tests.replay_kafka_streams import api
from tests.replay_kafka_streams.verdict import OutOfScopeError


def replay(case: dict[str, Any]) -> None:
    """Replay a list of operations."""
    api.need("VersionedKeyValueStore")
    raise OutOfScopeError("unknown topology: operations on a versioned store")
