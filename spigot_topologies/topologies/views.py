"""What callbacks see of a workflow: read only, and only while they run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from uuid import UUID

from spigot_topologies.errors import StaleViewError
from spigot_topologies.handlers import Status
from spigot_topologies.topologies.store import WorkflowParts
from spigot_topologies.workflow import Workflow

__all__ = ["View"]


class View:
    """A workflow during a callback; see `spigot_topologies.handlers.WorkflowView`.

    Raises:
        StaleViewError: by all of it, once the callback has returned.
    """

    __slots__ = ("_error", "_id", "_open", "_parts", "_run_id", "_status", "_workflow")

    def __init__(
        self,
        parts: WorkflowParts,
        id: Callable[[], Any],
        run_id: UUID,
        status: Status,
        error: Mapping[Any, Any] | None,
        workflow: Workflow | None,
    ) -> None:
        self._open = True
        self._parts = parts
        self._id = id
        self._run_id = run_id
        self._status = status
        self._error = error
        self._workflow = workflow

    def close(self) -> None:
        """The callback has returned."""
        self._open = False

    def check_open(self) -> None:
        """Raises `StaleViewError` after the callback."""
        if not self._open:
            raise StaleViewError(self._run_id)

    @property
    def id(self) -> Any:
        self.check_open()
        return self._id()

    @property
    def run_id(self) -> UUID:
        self.check_open()
        return self._run_id

    @property
    def status(self) -> Status:
        self.check_open()
        return self._status

    @property
    def error(self) -> Mapping[Any, Any] | None:
        self.check_open()
        return self._error

    @property
    def extra(self) -> Mapping[Any, Any]:
        self.check_open()
        return self._parts.context()[1]

    @property
    def scope(self) -> Mapping[str, Any]:
        self.check_open()
        return _Scope(self, {} if self._workflow is None else self._workflow.scope)

    @property
    def running(self) -> _Running:
        self.check_open()
        return _Running(self, self._workflow)

    def __repr__(self) -> str:
        return f"<workflow {self._run_id}, {self._status}{'' if self._open else ', no longer readable'}>"


class _Scope(Mapping[str, Any]):
    def __init__(self, view: View, scope: Mapping[str, Any]) -> None:
        self._view = view
        self._scope = scope

    def __getitem__(self, key: str) -> Any:
        self._view.check_open()
        return self._scope[key]

    def __iter__(self) -> Iterator[str]:
        self._view.check_open()
        for key in self._scope:
            self._view.check_open()
            yield key

    def __len__(self) -> int:
        self._view.check_open()
        return len(self._scope)


class _Running:
    def __init__(self, view: View, workflow: Workflow | None) -> None:
        self._view = view
        self._workflow = workflow

    def __iter__(self) -> Iterator[UUID]:
        self._view.check_open()
        return iter([] if self._workflow is None else [task.id for task in self._workflow.running])

    def __len__(self) -> int:
        self._view.check_open()
        return 0 if self._workflow is None else self._workflow.running_count
