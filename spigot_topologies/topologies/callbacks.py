"""The handler's callbacks: exactly one for each applied command, and what it returns becomes the event."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from spigot_topologies.errors import CallbackError, WorkflowFailed, show, text_of
from spigot_topologies.topologies.store import WorkflowParts
from spigot_topologies.topologies.views import View
from spigot_topologies.workflow import Workflow
from streamlet import ControlError, StateStoreError, TopologyError

__all__ = ["NOTHING", "Callbacks", "error_event"]

_log = logging.getLogger(__name__)

NOTHING: Final = object()
"""What is returned where no callback has run."""

_NAMES = ("on_create", "on_update", "on_complete", "on_error")


class Callbacks:
    """The methods that a handler has; those it lacks are not called.

    Raises:
        TopologyError: the handler is a class, has none of the methods, or one of them is a coroutine function.
    """

    def __init__(self, handler: Any) -> None:
        self._methods: dict[str, Callable[..., Any]] = {}
        if isinstance(handler, type):
            raise TopologyError(f"{handler!r} is a class: give it an object of it, {handler.__name__}(...)")
        for name in _NAMES if handler is not None else ():
            method = getattr(handler, name, None)
            if method is None:
                continue
            if not callable(method) or inspect.iscoroutinefunction(method):
                raise TopologyError(
                    f"{name} of {handler!r} must be a plain function: it runs within the manager's transaction, "
                    f"which does not wait for coroutines"
                )
            self._methods[name] = method
        if handler is not None and not self._methods:
            raise TopologyError(f"{handler!r} is no workflow handler: give it one of the methods {', '.join(_NAMES)}")

    def run(
        self,
        name: str,
        parts: WorkflowParts,
        id: Callable[[], Any],
        run_id: UUID,
        workflow: Workflow | None,
        error: dict[Any, Any] | None,
    ) -> Any:
        """Calls one of them and gives the event's value, `NOTHING` where the handler has no such method.

        Args:
            name: Which.
            parts: The workflow's parts, where its ctx is.
            id: Gives the workflow's id.
            run_id: Its run.
            workflow: The workflow; None for one whose plan was refused.
            error: Its error, for `on_error`.
        """
        method = self._methods.get(name)
        if method is None:
            return NOTHING
        status = "failure" if workflow is None else workflow.status
        view = View(parts, id, run_id, "running" if status == "init" else status, error, workflow)
        try:
            if name == "on_error":
                return method(parts.context()[0], WorkflowFailed(error, id()), view)
            return method(parts.context()[0], view)
        except (StateStoreError, ControlError):
            raise
        except Exception as raised:
            _log.warning("%s of workflow run %s raised %s", name, run_id, show(raised), exc_info=raised)
            return self._raised(CallbackError(name, raised), parts, view)
        finally:
            view.close()

    def _raised(self, error: CallbackError, parts: WorkflowParts, view: View) -> Any:
        on_error = self._methods.get("on_error")
        if on_error is None or error.callback == "on_error":
            return error_event(error)
        try:
            return on_error(parts.context()[0], error, view)
        except (StateStoreError, ControlError):
            raise
        except Exception as second:
            _log.warning("on_error of workflow run %s raised %s", view.run_id, show(second), exc_info=second)
            return error_event(CallbackError("on_error", second))


def error_event(error: Exception) -> dict[str, Any]:
    """The event in place of one that there cannot be."""
    return {"error": {"message": text_of(error), "type": type(error).__name__}}
