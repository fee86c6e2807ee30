"""What goes out of the engine and what comes back: tasks and outcomes."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from attrs import frozen

__all__ = ["APPLIED", "Outcome", "Reason", "RunningTask", "Task"]

Reason = Literal["unknown-task", "not-a-task", "not-started", "duplicate", "already-finished", "workflow-ended"]


@frozen
class Task:
    """A task to start.

    Attributes:
        id: Its idempotency key: the same task of the same run has the same id, however often it is handed out.
        tag: Names the handler.
        params: The parameters, and the id under `spigot/id`. A new dict; what is inside may be shared with the scope,
            so a handler must not change it.
        path: The node's path in the expanded tree, as `r.0.1`; a loop's copies are its children.
        attempt: 1 for the first.
    """

    id: UUID
    tag: str
    params: dict[Any, Any]
    path: str
    attempt: int = 1


@frozen
class RunningTask:
    """A task that was handed out and has no result yet."""

    id: UUID
    tag: str
    path: str


@frozen
class Outcome:
    """What became of a result. True where it was applied.

    Attributes:
        reason: Why it was rejected; None where it was applied.
    """

    reason: Reason | None = None

    @property
    def applied(self) -> bool:
        return self.reason is None

    def __bool__(self) -> bool:
        return self.reason is None


APPLIED = Outcome()
