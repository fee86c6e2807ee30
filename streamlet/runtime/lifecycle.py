"""The states of an application and of its threads, and who is told when they change."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import Enum
from threading import Condition, local
from typing import TypeAlias

_log = logging.getLogger(__name__)


class State(Enum):
    """What an application is doing; the states of Kafka Streams."""

    CREATED = "CREATED"
    REBALANCING = "REBALANCING"
    RUNNING = "RUNNING"
    PENDING_SHUTDOWN = "PENDING_SHUTDOWN"
    NOT_RUNNING = "NOT_RUNNING"
    PENDING_ERROR = "PENDING_ERROR"
    ERROR = "ERROR"

    @property
    def is_running_or_rebalancing(self) -> bool:
        """Whether the application takes part in the group."""
        return self in (State.REBALANCING, State.RUNNING)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self in (State.NOT_RUNNING, State.ERROR)


class ThreadState(Enum):
    """What a stream thread is doing."""

    CREATED = "CREATED"
    STARTING = "STARTING"
    PARTITIONS_REVOKED = "PARTITIONS_REVOKED"
    PARTITIONS_ASSIGNED = "PARTITIONS_ASSIGNED"
    RUNNING = "RUNNING"
    PENDING_SHUTDOWN = "PENDING_SHUTDOWN"
    DEAD = "DEAD"


_ALLOWED: dict[State, frozenset[State]] = {
    State.CREATED: frozenset({State.REBALANCING, State.PENDING_SHUTDOWN, State.PENDING_ERROR}),
    State.REBALANCING: frozenset({State.RUNNING, State.PENDING_SHUTDOWN, State.PENDING_ERROR}),
    State.RUNNING: frozenset({State.REBALANCING, State.PENDING_SHUTDOWN, State.PENDING_ERROR}),
    State.PENDING_SHUTDOWN: frozenset({State.NOT_RUNNING}),
    State.NOT_RUNNING: frozenset(),
    State.PENDING_ERROR: frozenset({State.ERROR}),
    State.ERROR: frozenset(),
}

StateListener: TypeAlias = Callable[[State, State], object]
"""Called with the new state and the old one, from the thread that changed it; must not block."""


class Lifecycle:
    """The state of an application; safe from all threads."""

    def __init__(self, told: Callable[[State, State], None]) -> None:
        self._state = State.CREATED
        self._changed = Condition()
        self._told = told
        self._telling = local()

    @property
    def state(self) -> State:
        """The state of now."""
        return self._state

    @property
    def tells(self) -> bool:
        """Whether the caller is being told of a change, which goes on only when it returns."""
        return bool(getattr(self._telling, "depth", 0))

    def move(self, to: State) -> bool:
        """Change the state if that is allowed from where it is; tell whether it was changed."""
        with self._changed:
            old = self._state
            if to not in _ALLOWED[old]:
                return False
            self._state = to
            self._changed.notify_all()
        _log.info("state changed from %s to %s", old.value, to.value)
        depth = getattr(self._telling, "depth", 0)
        self._telling.depth = depth + 1
        try:
            self._told(to, old)
        finally:
            self._telling.depth = depth
        return True

    def wait_for(self, wanted: Callable[[State], bool], timeout: float | None, look_again: float | None = None) -> bool:
        """Wait until the state is one of those wanted; False after the timeout (seconds).

        Args:
            wanted: Asked at every change of the state.
            timeout: Seconds; None: for ever.
            look_again: Ask also so often (seconds), for what is not announced: a signal handler must not take locks.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not wanted(self._state):
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._changed.wait(min((t for t in (left, look_again) if t is not None), default=None))
            return True
