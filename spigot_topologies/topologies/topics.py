"""Topics of workflows: a topic with its codec and the largest message it takes."""

from __future__ import annotations

from typing import Any, Final

from attrs import frozen

from spigot_topologies.wire import MAX_MESSAGE_BYTES, Codec, serdes
from streamlet import Topic, TopologyError

__all__ = ["ENVELOPE_BYTES", "MAX_KEY_BYTES", "WorkflowTopic", "topic_cfg"]

ENVELOPE_BYTES: Final = 1024
"""Allowed for what a record has beside key, value and headers, and for the headers' small ones."""

MAX_KEY_BYTES: Final = 16 * 1024
"""A workflow's key may have so many bytes: it stands in each of its records up to three times."""


@frozen
class WorkflowTopic(Topic[Any, Any]):
    """A topic whose keys are ids and whose values are messages.

    Attributes:
        codec: How both are written.
        max_bytes: The largest record, key and headers included.
    """

    codec: Codec
    max_bytes: int

    def room_for_value(self, key: bytes, headers: list[tuple[str, bytes | None]]) -> int:
        """How many bytes the value of a record with this key and these headers may have."""
        beside = len(key) + sum(len(name) + len(data or b"") for name, data in headers)
        return self.max_bytes - beside - ENVELOPE_BYTES


def topic_cfg(name: str, codec: str = "json", *, max_bytes: int = MAX_MESSAGE_BYTES) -> WorkflowTopic:
    """A topic for commands, tasks or events.

    Args:
        name: Its name.
        codec: `"json"` between Python processes, `"edn"` with a Clojure program on the other side.
        max_bytes: The largest record that is sent to it. Raise it only together with the topic's `max.message.bytes`
            and the producers' `message.max.bytes`.

    Raises:
        ValueError: there is no such codec.
        TopologyError: the name is none that Kafka allows.
    """
    if max_bytes < 4 * MAX_KEY_BYTES:
        raise TopologyError(f"topic {name!r}: max_bytes must be at least {4 * MAX_KEY_BYTES:,}, not {max_bytes:,}")
    made = serdes(codec, max_bytes=max_bytes)
    return WorkflowTopic(name, made.key, made.value, made.codec, max_bytes)
