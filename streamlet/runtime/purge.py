"""Repartition topics are between two sub-topologies only: what the second has taken in is deleted."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any

from streamlet.runtime.active import ActiveTask
from streamlet.runtime.context import AppContext

_log = logging.getLogger(__name__)


class RepartitionPurge:
    """Deletes committed records of repartition topics every ``repartition.purge.interval.ms``, without waiting."""

    def __init__(self, app: AppContext) -> None:
        self._app = app
        self._interval = app.config.repartition_purge_interval_ms / 1000
        self._last = app.clock.monotonic()
        self._asked: list[Future[Any]] = []

    def after_commit(self, tasks: Iterable[ActiveTask]) -> None:
        """Called after each commit with the tasks that it held."""
        repartition = self._app.layout.repartition
        if not repartition or self._app.clock.monotonic() - self._last < self._interval:
            return
        if not all(future.done() for future in self._asked):
            return
        for future in self._asked:
            error = future.exception()
            if error is not None:
                _log.info("records of a repartition topic could not be deleted, it is tried again: %s", error)
        self._last = self._app.clock.monotonic()
        self._asked = self._app.admin.delete_before(
            {
                place: at.offset
                for task in tasks
                for place, at in task.resume.items()
                if place[0] in repartition and at.offset > 0
            }
        )
