"""What becomes of a record that is not applied: counted, published with its reason, kept in the dead letter topic."""

from __future__ import annotations

import logging
from typing import Any, Final

from attrs import frozen

from spigot_topologies.errors import show
from spigot_topologies.topologies.topics import WorkflowTopic
from spigot_topologies.wire import encode
from streamlet import ProcessorContext, Record, Serde

__all__ = [
    "DEAD_LETTERS",
    "REASON_HEADER",
    "REJECTIONS",
    "DeadLetter",
    "DeadLetterSerde",
    "Refusals",
    "dead_letter_topic_of",
]

_log = logging.getLogger(__name__)

REJECTIONS: Final = "rejections"
DEAD_LETTERS: Final = "dead-letters"
REASON_HEADER: Final = "sp-reason"

_CONFIGURED: Final = "errors.dead.letter.queue.topic.name"
_HEADER_PREFIX: Final = "__streams.errors."  # KIP-1034's
_MAX_LETTER_BYTES: Final = 900_000
_MAX_DETAIL: Final = 2_000
_NEED_A_LETTER: Final = frozenset({"unreadable", "internal-error"})


@frozen
class DeadLetter:
    """A record as it came, for the dead letter topic."""

    topic: str
    value: bytes | None


class DeadLetterSerde(Serde[Any]):
    """Writes dead letters as the bytes they were."""

    def serialize(self, value: DeadLetter, /) -> bytes:
        """The bytes."""
        return value.value  # type: ignore[return-value]  # None stays null: nobody looks at it on the way to the log

    def deserialize(self, data: bytes, /) -> DeadLetter:
        """The letter; its topic is not in the bytes."""
        return DeadLetter("", data)


def dead_letter_topic_of(key: Any, letter: DeadLetter, origin: Any) -> str:
    """Where a letter goes."""
    return letter.topic


class Refusals:
    """Says no to records, in the name of one processor.

    Args:
        context: The processor's.
        rejections: Where to publish reasons, None: nowhere.
        dead_letter_topic: Where unreadable records go; None: what the application's configuration says.
        prefix: What its sinks' names begin with.
    """

    def __init__(
        self,
        context: ProcessorContext[Any, Any],
        rejections: WorkflowTopic | None,
        dead_letter_topic: str | None,
        prefix: str,
    ) -> None:
        self._context = context
        self._to_rejections = f"{prefix}-{REJECTIONS}"
        self._to_dead_letters = f"{prefix}-{DEAD_LETTERS}"
        self._rejections = rejections
        self._dead_letters = dead_letter_topic or context.app_configs().get(_CONFIGURED)
        self._has_explained: set[str] = set()

    def refuse(self, record: Record[Any, Any], reason: str, detail: str, error: Exception | None = None) -> None:
        """A record is not applied.

        Args:
            record: The record, as bytes.
            reason: One of the specification's.
            detail: What exactly, for a person.
            error: What was raised, where that is the reason.
        """
        self._context.dropped(reason)
        detail = f"{detail:.{_MAX_DETAIL}}"
        if reason in _NEED_A_LETTER and reason not in self._has_explained:
            self._has_explained.add(reason)  # once: the drops themselves are counted, and said from time to time
            hint = "; do both sides have the same codec in topic_cfg?" if reason == "unreadable" else ""
            _log.warning("a record was refused as %s: %s%s", reason, show(detail, 300), hint)
        if self._rejections is not None:
            self._publish(self._rejections, record, reason, detail)
        if reason in _NEED_A_LETTER and self._dead_letters is not None:
            self._keep(self._dead_letters, record, reason, detail, error)

    def _publish(self, topic: WorkflowTopic, record: Record[Any, Any], reason: str, detail: str) -> None:
        at = self._context.record_metadata()
        value = {
            "reason": reason,
            "detail": detail.encode(errors="replace").decode(),
            "topic": None if at is None else at.topic,
            "partition": None if at is None else at.partition,
            "offset": None if at is None else at.offset,
        }
        data = encode(value, topic.codec)
        key = record.key
        if key is not None and topic.room_for_value(key, []) < len(data):
            key = key[: topic.max_bytes // 2]
        self._context.forward(
            Record(key, data, max(record.timestamp, 0), ((REASON_HEADER, reason.encode()),)),
            self._to_rejections,
        )

    def _keep(self, topic: str, record: Record[Any, Any], reason: str, detail: str, error: Exception | None) -> None:
        at = self._context.record_metadata()
        texts = {
            "exception": reason if error is None else type(error).__name__,
            "message": detail,
            "topic": None if at is None else at.topic,
            "partition": None if at is None else at.partition,
            "offset": None if at is None else at.offset,
        }
        headers = tuple(
            (_HEADER_PREFIX + name, None if text is None else str(text).encode(errors="replace"))
            for name, text in texts.items()
        )
        # A record may be larger, with headers added, than the producer may send: its end is cut off then.
        key = None if record.key is None else record.key[: _MAX_LETTER_BYTES // 2]
        value = None if record.value is None else record.value[: _MAX_LETTER_BYTES - len(key or b"")]
        self._context.forward(
            Record(key, DeadLetter(topic, value), max(record.timestamp, 0), headers), self._to_dead_letters
        )
