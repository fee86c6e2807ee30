"""The errors of streamlet: one hierarchy under `StreamsError`."""

from __future__ import annotations


class StreamsError(Exception):
    """Base of every error that streamlet raises on purpose."""


class ConfigError(StreamsError):
    """A configuration key or value is wrong; the message names the key and what to write instead."""


class TopologyError(StreamsError):
    """A topology is not valid: a name used twice, a parent that does not exist, a serde that is missing."""


class SerializationError(StreamsError):
    """A key or value could not be turned into bytes, or bytes not into a value."""


class StateStoreError(StreamsError):
    """A state store could not be opened, read or written."""


class InvalidStateStoreError(StateStoreError):
    """A store cannot be queried now: it is closed, unknown, or its task has moved to another instance."""


class LockError(StreamsError):
    """A state directory or an embedded log is in use by another process; the message names it."""


class StateMismatchError(StateStoreError):
    """Local state belongs to another log or another topology than the one at hand."""


class MissingSourceTopicError(StreamsError):
    """A source topic of the topology does not exist on the cluster."""


class InvalidTopicError(StreamsError):
    """An internal topic exists, but not as the topology needs it (partition count, cleanup policy)."""


class LogUnreachableError(StreamsError):
    """No broker answers at the address given."""


class StartTimeoutError(StreamsError, TimeoutError):
    """The application did not reach RUNNING within the time allowed."""


class ControlError(StreamsError):
    """Base of what the runtime itself must see: no exception handler is asked, no operator may swallow it."""


class TaskError(ControlError):
    """Processing a record failed and the handler chose to fail.

    Attributes:
        node: Name of the node whose code failed, or None.
        task: The task's id, like ``0_3``.
        topic: Source topic of the record at hand, or None in a punctuation.
        partition: Its partition.
        offset: Its offset.
    """

    def __init__(
        self,
        message: str,
        *,
        node: str | None = None,
        task: str | None = None,
        topic: str | None = None,
        partition: int | None = None,
        offset: int | None = None,
    ) -> None:
        super().__init__(message)
        self.node = node
        self.task = task
        self.topic = topic
        self.partition = partition
        self.offset = offset


class StateUnreadableError(StateStoreError, ControlError):
    """The data of a store cannot be read where it lies; no record is to blame, so no exception handler may skip one."""


class TaskMigratedError(ControlError):
    """The task belongs to another member now, or this producer was fenced; its work must be dropped."""


class ProductionError(ControlError):
    """The log refused a record for good, and the handler chose to fail."""
