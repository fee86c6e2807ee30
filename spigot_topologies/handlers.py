"""What an application gives to the topologies: its callbacks, and what they get to see of a workflow.

All are protocols: any object with the methods will do. A method may be a coroutine function wherever it says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Mapping
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable
from uuid import UUID

from spigot_topologies.errors import CallbackError, WorkflowFailed

__all__ = [
    "CallbackError",
    "ErrorHandler",
    "RunningTasks",
    "Status",
    "TaskProcessor",
    "WorkflowFailed",
    "WorkflowHandler",
    "WorkflowView",
]

Status: TypeAlias = Literal["init", "running", "success", "failure"]


class RunningTasks(Protocol):
    """The tasks that run now. Iterating reads them all from the store."""

    def __iter__(self) -> Iterator[UUID]:
        """Their ids."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...


class WorkflowView(Protocol):
    """A workflow as callbacks see it: read only, and valid only while the callback runs.

    `id`, `run_id`, `status`, `error` and `extra` cost nothing. `scope[name]` is one read of the store; iterating over
    `scope` or `running` reads them whole.
    """

    @property
    def id(self) -> Any:
        """The workflow's id: the key of its records."""
        ...

    @property
    def run_id(self) -> UUID:
        """This run of it: an id that is used again after retention runs under another."""
        ...

    @property
    def status(self) -> Status:
        """The status after the command that caused the callback."""
        ...

    @property
    def error(self) -> Mapping[Any, Any] | None:
        """The first uncaught failure; None if there is none."""
        ...

    @property
    def extra(self) -> Mapping[Any, Any]:
        """The further params the workflow was created with, like `workflows/name`."""
        ...

    @property
    def scope(self) -> Mapping[str, Any]:
        """The root scope."""
        ...

    @property
    def running(self) -> RunningTasks:
        """The tasks that run now."""
        ...


class WorkflowHandler(Protocol):
    """Told of each workflow's life, in the manager's process and within its transaction.

    For each command that is applied exactly one method runs: `on_complete` when the workflow has succeeded with it,
    `on_create` for the first command, else `on_update`, for every single result. When the workflow has failed it is
    `on_error` of the `ErrorHandler`, if the same object has it. What a method returns is published as an event, None
    too. One that raises does no harm to the workflow: `on_error` gets a `CallbackError`, and gives the event instead.

    The methods delay the commands behind them, so they should be quick, and do nothing that must not be repeated: a
    transaction that aborts runs them again.
    """

    def on_create(self, ctx: Any, workflow: WorkflowView) -> Any:
        """The workflow has been created, and its first tasks are about to be sent."""
        ...

    def on_update(self, ctx: Any, workflow: WorkflowView) -> Any:
        """A result or failure has been applied, and the workflow goes on."""
        ...

    def on_complete(self, ctx: Any, workflow: WorkflowView) -> Any:
        """The workflow has succeeded."""
        ...


@runtime_checkable
class ErrorHandler(Protocol):
    """Told of what went wrong, by the manager and by the worker."""

    def on_error(self, ctx: Any, error: BaseException, workflow: WorkflowView | None) -> Any:
        """Something went wrong; what is returned is published as an event.

        Args:
            ctx: The workflow's ctx.
            error: In the manager `WorkflowFailed` (the workflow has ended) or `CallbackError` (a method of the
                `WorkflowHandler` raised); in a worker what `process_task` raised. Whether the failure of a task is
                caught is the workflow's affair: it may go on.
            workflow: The workflow; None in a worker, which does not know it.
        """
        ...


class TaskProcessor(Protocol):
    """Does the tasks, in a worker's process: many at a time, so it must be thread-safe."""

    def process_task(self, ctx: Any, task: list[Any]) -> Mapping[Any, Any] | Awaitable[Mapping[Any, Any] | None] | None:
        """Do a task, and return its result for `out` to read from. May be a coroutine function.

        A task may be given more than once, after a crash or a rebalance, always with the same `spigot/id`: use it as
        the key for what must happen only once. Raising an exception (`SystemExit` too) fails the task, as does taking
        longer than `task_timeout`; a `try` in the plan may catch it.

        Args:
            ctx: The workflow's ctx.
            task: `[tag, params]`; the params hold the task's id as `spigot/id`.
        """
        ...
