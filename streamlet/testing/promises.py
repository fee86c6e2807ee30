"""Checks the promise ``Materialized(..., immutable_values=True)``, and names the operator that breaks it."""

from __future__ import annotations

from typing import Any

from streamlet.errors import ControlError, StateStoreError
from streamlet.processor.operator import Forward
from streamlet.records import Headers
from streamlet.state import TaskState


class BrokenPromiseError(StateStoreError, ControlError, AssertionError):
    """A value was changed in place although its store was promised that none is."""


class PromiseChecker:
    """Looks at the stores' values whenever one operator hands over to another.

    The stores remember the bytes of every object they were given or gave away. When control passes from one operator
    to the next or back, an object whose bytes are other ones now was changed by the operator that ran last.
    """

    def __init__(self, state: TaskState) -> None:
        self._state = state
        self._running: list[str] = []
        state.watch_values()

    def observe(self, node: str, process: Forward) -> Forward:
        """Return a node's function with a check before and after it."""
        running = self._running

        def observed(key: Any, value: Any, timestamp: int, headers: Headers) -> None:
            if running:
                self._verify(running[-1])
            running.append(node)
            try:
                process(key, value, timestamp, headers)
                self._verify(node)
            finally:
                running.pop()

        return observed

    def verify(self) -> None:
        """Check once more, at the end of a record or a punctuation."""
        self._verify(None)

    def _verify(self, node: str | None) -> None:
        try:
            self._state.verify_values()
        except StateStoreError as error:
            culprit = "a punctuation or the test itself" if node is None else f"node {node}"
            raise BrokenPromiseError(
                f"{culprit} changed a value in place, against Materialized(immutable_values=True): {error}. "
                f"Return a new value instead, or take the promise back"
            ) from error
