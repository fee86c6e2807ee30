"""Exception handlers: what happens to a record that cannot be read, processed or written (KIP-1033, KIP-1034).

A handler is a function ``(context, record, error) -> Response``. `record` is the log's message where bytes could not
be read, a `Record` where user code raised, an `OutputRecord` where a record could not be written.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, TypeAlias

from attrs import frozen

from streamlet.errors import ControlError
from streamlet.records import Headers, TaskId

_log = logging.getLogger(__name__)

_PREFIX = "__streams.errors."


class Result(Enum):
    """What a handler decides."""

    CONTINUE = "continue"
    FAIL = "fail"
    RETRY = "retry"


@frozen
class DeadLetter:
    """A record for a dead letter topic; written by the producer of the results, so within the same transaction."""

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp: int
    headers: Headers = ()


@frozen
class Response:
    """A handler's answer, with the dead letters to be written."""

    result: Result
    dead_letters: tuple[DeadLetter, ...] = ()

    @classmethod
    def resume(cls, dead_letters: Iterable[DeadLetter] = ()) -> Response:
        """Drop the record at this node and go on with the next."""
        return cls(Result.CONTINUE, tuple(dead_letters))

    @classmethod
    def fail(cls, dead_letters: Iterable[DeadLetter] = ()) -> Response:
        """Stop: the thread ends, and the uncaught exception handler is asked."""
        return cls(Result.FAIL, tuple(dead_letters))

    @classmethod
    def retry(cls) -> Response:
        """Write the record again; only a production handler may say so, for errors that can pass."""
        return cls(Result.RETRY)


@frozen
class ErrorContext:
    """Where it happened.

    Attributes:
        node: Name of the node, or None outside of the topology.
        task: The task.
        topic: Topic of the source record; None in a punctuation, like `partition` and `offset`.
        timestamp: Its timestamp (ms), or that of the punctuation.
        headers: Its headers.
        raw_key: Its key as it was read.
        raw_value: Its value as it was read.
        dead_letter_topic: What ``errors.dead.letter.queue.topic.name`` says.
    """

    node: str | None
    task: TaskId
    topic: str | None
    partition: int | None
    offset: int | None
    timestamp: int
    headers: Headers
    raw_key: bytes | None
    raw_value: bytes | None
    dead_letter_topic: str | None

    def __str__(self) -> str:
        at = (
            "in a punctuation"
            if self.topic is None
            else f"topic {self.topic}, partition {self.partition}, offset {self.offset}"
        )
        node = "" if self.node is None else f"node {self.node}, "
        return f"{node}task {self.task}, {at}"

    def dead_letters(self, error: BaseException) -> tuple[DeadLetter, ...]:
        """Return the dead letter of the source record, as KIP-1034 has it; none if no topic is configured for it."""
        if self.dead_letter_topic is None:
            return ()
        return (self.dead_letter(self.dead_letter_topic, error),)

    def dead_letter(self, topic: str, error: BaseException) -> DeadLetter:
        """Return the source record as a dead letter for a topic, with headers that say what happened and where."""
        trace = "".join(traceback.format_exception(error))
        texts = {
            "exception": _name(error),
            "message": str(error),
            "stacktrace": trace,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
        }
        headers = [(_PREFIX + name, None if text is None else str(text).encode()) for name, text in texts.items()]
        return DeadLetter(topic, self.raw_key, self.raw_value, max(self.timestamp, 0), tuple(headers))


def _name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


@frozen
class OutputRecord:
    """A record that could not be written; key and value as objects if serialising them failed, otherwise as bytes."""

    topic: str
    key: Any
    value: Any
    timestamp: int
    headers: Headers
    partition: int | None = None


ExceptionHandler: TypeAlias = Callable[[ErrorContext, Any, Exception], Response]
"""See the module."""


def log_and_fail(context: ErrorContext, record: Any, error: Exception, /) -> Response:
    """Stop at the first error; the default. The record also goes to the dead letter topic, if one is configured."""
    return Response.fail(context.dead_letters(error))


def log_and_continue(context: ErrorContext, record: Any, error: Exception, /) -> Response:
    """Log the error at WARNING and go on; the record goes to the dead letter topic, if one is configured."""
    _log.warning("record skipped (%s): %s: %s", context, type(error).__name__, error, exc_info=error)
    return Response.resume(context.dead_letters(error))


def ask(handler: ExceptionHandler, context: ErrorContext, record: Any, error: Exception) -> Response:
    """Call a handler; what is wrong with itself counts as FAIL.

    Also used by the runtime's collector for what the log refuses.
    """
    try:
        response: object = handler(context, record, error)
    except ControlError:
        raise
    except Exception as second:
        _log.error("the exception handler itself failed (%s)", context, exc_info=second)
        return Response.fail()
    if isinstance(response, Result):
        return Response(response)
    if not isinstance(response, Response):
        _log.error("the exception handler must return a Response, not %r (%s)", response, context)
        return Response.fail()
    return response
