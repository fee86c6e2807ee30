"""What rides in record headers: extensions that a Clojure program neither sends nor reads, and what an event says.

Kafka Streams copies the headers of a command onto the records it produces next. So extensions name the record they were
made for, in `sp-task`, and are trusted only where that equals the record's key: a Clojure worker's result carries our
task's headers, but its key is the workflow's id. A record with trusted extensions was made by this library, which is
how a worker knows a manager that understands failure messages.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from attrs import frozen

__all__ = [
    "EventHeaders",
    "Extensions",
    "Headers",
    "event_headers",
    "extension_headers",
    "read_event",
    "read_extensions",
]

Headers = list[tuple[str, bytes | None]]

VERSION = 1
"""The version of the extensions this code writes."""

_TASK, _VERSION, _RUN, _ATTEMPT = "sp-task", "sp-version", "sp-run", "sp-attempt"
_WORKFLOW, _STATUS, _SEQUENCE = "sp-workflow", "sp-status", "sp-seq"
_MAX_NUMBER = 18  # digits: a number of more is no attempt and no sequence, and would not fit 64 bits


@frozen
class Extensions:
    """What a record says beside its message.

    Attributes:
        run_id: The run of the workflow: an id used again after retention has another.
        attempt: Which attempt of the task, from 1.
        version: The version of the extensions the sender writes.
    """

    run_id: UUID
    attempt: int = 1
    version: int = VERSION


@frozen
class EventHeaders:
    """What every event says of its workflow.

    Attributes:
        workflow_id: The workflow's key, as bytes: its identity.
        run_id: The run.
        status: `running`, `success` or `failure`, after the command that caused the event.
        sequence: Counts the run's applied commands.
    """

    workflow_id: bytes
    run_id: UUID
    status: str
    sequence: int


def extension_headers(key: bytes, extensions: Extensions) -> Headers:
    """Headers for a task, or for its result or failure, whose record has this key."""
    return [
        (_TASK, key),
        (_VERSION, b"%d" % extensions.version),
        (_RUN, str(extensions.run_id).encode()),
        (_ATTEMPT, b"%d" % extensions.attempt),
    ]


def read_extensions(key: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> Extensions | None:
    """The extensions made for the record with this key; None if there are none, or they are another record's or broken.

    Of several headers with one name the last counts, as in Kafka.
    """
    found = dict(headers)
    if key is None or found.get(_TASK) != key:
        return None
    run_id, attempt, version = _uuid(found.get(_RUN)), _number(found.get(_ATTEMPT)), _number(found.get(_VERSION))
    if run_id is None or not attempt or not version:
        return None
    return Extensions(run_id, attempt, version)


def event_headers(event: EventHeaders) -> Headers:
    """Headers for an event, from which a waiting client learns the workflow's state."""
    return [
        (_WORKFLOW, event.workflow_id),
        (_RUN, str(event.run_id).encode()),
        (_STATUS, event.status.encode()),
        (_SEQUENCE, b"%d" % event.sequence),
    ]


def read_event(headers: Iterable[tuple[str, bytes | None]]) -> EventHeaders | None:
    """What the headers say of the workflow; None if they are not an event's of this library."""
    found = dict(headers)
    workflow_id, status = found.get(_WORKFLOW), found.get(_STATUS)
    run_id, sequence = _uuid(found.get(_RUN)), _number(found.get(_SEQUENCE))
    if workflow_id is None or status not in (b"running", b"success", b"failure") or run_id is None or sequence is None:
        return None
    return EventHeaders(workflow_id, run_id, status.decode(), sequence)


def _uuid(data: bytes | None) -> UUID | None:
    try:
        return UUID((data or b"").decode("ascii"))
    except ValueError:
        return None


def _number(data: bytes | None) -> int | None:
    return int(data) if data and data.isdigit() and len(data) <= _MAX_NUMBER else None
