"""The errors of spigot_topologies, under `streamlet`'s hierarchy.

Each takes what it is about as its arguments and makes its message from them, so that it survives pickling (a task
handler may run in a process pool) and a caller can act on the data rather than on the text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from streamlet.errors import SerializationError, StreamsError

__all__ = ["CallbackError", "PlanError", "StaleViewError", "WireError", "WorkflowFailed", "show", "text_of"]


def show(value: Any, limit: int = 80) -> str:
    """A value for an error's message: its repr, cut to `limit` characters, and never an exception."""
    try:
        return f"{value!r:.{limit}}"
    except Exception:  # a number of too many digits, nesting without end, an object whose repr raises
        return f"a {type(value).__name__}"


def text_of(error: BaseException, limit: int = 2000) -> str:
    """What an exception says, cut to `limit` characters and fit for UTF-8; its type's name where it says nothing."""
    try:
        text = f"{error!s:.{limit}}"
    except Exception:  # a __str__ that raises
        text = ""
    return text.encode(errors="replace").decode() or type(error).__name__


class PlanError(StreamsError):
    """A plan was refused; every fault that was found is listed, each with the path of its node.

    Attributes:
        faults: The faults as `check` reports them; `str` of each is a line that names the path.
    """

    def __init__(self, faults: Sequence[Any]) -> None:
        super().__init__(faults)
        self.faults: tuple[Any, ...] = tuple(faults)

    def __str__(self) -> str:
        count = len(self.faults)
        head = "the plan has a fault" if count == 1 else f"the plan has {count} faults"
        return "\n  ".join([f"{head}:", *map(str, self.faults)])


class WorkflowFailed(StreamsError):  # noqa: N818 - the name is the documented API
    """A workflow ended in failure.

    Attributes:
        error: The workflow's error map: what the first uncaught failure carried.
        workflow_id: The workflow's id, or None for a workflow that ran in this process alone.
    """

    def __init__(self, error: Mapping[Any, Any] | None, workflow_id: Any = None) -> None:
        super().__init__(error, workflow_id)
        self.error: dict[Any, Any] = dict(error or {})
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        who = "the workflow" if self.workflow_id is None else f"workflow {self.workflow_id}"
        message = self.error.get("message")
        return f"{who} failed: {message if message is not None else self.error}"


class CallbackError(StreamsError):
    """A workflow handler's callback raised; the exception itself is its `__cause__` and in `error`.

    Attributes:
        callback: The callback's name, like `"on_update"`.
        error: What it raised.
    """

    def __init__(self, callback: str, error: BaseException) -> None:
        super().__init__(callback, error)
        self.callback = callback
        self.error = error
        self.__cause__ = error

    def __str__(self) -> str:
        return f"{self.callback} raised {type(self.error).__name__}: {text_of(self.error)}"


class StaleViewError(StreamsError):
    """A callback's view of a workflow was read after the callback had returned.

    Attributes:
        run_id: The run of the workflow.
    """

    def __init__(self, run_id: UUID) -> None:
        super().__init__(run_id)
        self.run_id = run_id

    def __str__(self) -> str:
        return (
            f"the view of workflow run {self.run_id} is valid only while its callback runs: copy what is needed "
            f"later, like dict(workflow.scope), or put it into the event"
        )


class WireError(SerializationError):
    """Bytes are not a message, or a value is none that can be sent.

    Attributes:
        reason: `"unreadable"` (the bytes are not of the codec), `"unknown-message"` (they are, but no message of
            this topic), `"unwritable"` (the value has no form on the wire) or `"oversize"`.
        detail: What exactly, and what to do about it.
        position: Where in the text, counted in characters from 0, or None.
    """

    def __init__(self, reason: str, detail: str, position: int | None = None) -> None:
        super().__init__(reason, detail, position)
        self.reason = reason
        self.detail = detail
        self.position = position

    def __str__(self) -> str:
        where = "" if self.position is None else f" at character {self.position}"
        return f"{self.reason}: {self.detail}{where}"
