"""Fault points: where a test may stop the process within a commit, to show that a restart finds its way back."""

from __future__ import annotations

from enum import Enum


class FaultPoint(Enum):
    """Where a commit can be cut in two."""

    AFTER_CHANGELOGS = "after the changelog records were written, before the log commits"
    BEFORE_COMMIT = "offsets are in the transaction, the transaction is open"
    AFTER_COMMIT = "the log has committed, no store has taken the changes"
    BETWEEN_STORES = "some tasks' stores have taken the changes, others have not"
    AFTER_STORES = "every store has taken the changes"


class Hooks:
    """What the runtime tells tests; this one, which production uses, does nothing."""

    def reached(self, point: FaultPoint) -> None:
        """Called by a stream thread each time it gets to a fault point."""


NO_HOOKS = Hooks()
