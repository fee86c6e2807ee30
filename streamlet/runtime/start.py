"""`start`: an application in one call."""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any

from streamlet.config import StreamsConfig
from streamlet.errors import StartTimeoutError
from streamlet.metrics import Sensor
from streamlet.runtime.lifecycle import StateListener
from streamlet.runtime.restore import StateRestoreListener
from streamlet.runtime.streams import KafkaStreams, UncaughtExceptionHandler
from streamlet.topology import Topology

DEFAULT_TIMEOUT = timedelta(seconds=60)


def start(
    topology: Topology,
    config: Mapping[str, Any] | StreamsConfig,
    *,
    timeout: timedelta = DEFAULT_TIMEOUT,
    state_listener: StateListener | None = None,
    uncaught_exception_handler: UncaughtExceptionHandler | None = None,
    restore_listener: StateRestoreListener | None = None,
    sensor: Sensor | None = None,
) -> KafkaStreams:
    """Start an application, and return it when it runs: its tasks are assigned and their state is restored.

    Close it in the end, or use it as a context manager.

    Args:
        topology: What to run.
        config: Kafka Streams' keys; ``application.id`` and ``bootstrap.servers`` are needed.
        timeout: How long to wait for it to run.
        state_listener: See `KafkaStreams.set_state_listener`.
        uncaught_exception_handler: See `KafkaStreams.set_uncaught_exception_handler`.
        restore_listener: See `KafkaStreams.set_global_state_restore_listener`.
        sensor: Told what happens.

    Raises:
        StartTimeoutError: It does not run after `timeout`; it was closed.
        StreamsError: See `KafkaStreams.start`; or what stopped it before it ran.
    """
    app = KafkaStreams(topology, config, sensor=sensor)
    if state_listener is not None:
        app.set_state_listener(state_listener)
    if uncaught_exception_handler is not None:
        app.set_uncaught_exception_handler(uncaught_exception_handler)
    if restore_listener is not None:
        app.set_global_state_restore_listener(restore_listener)
    app.start(timeout)
    try:
        running = app.wait_until_running(timeout)
    except BaseException:
        app.close()
        raise
    if not running:
        doing = ", ".join(f"{t.thread_name} is {t.thread_state.value}" for t in app.metadata_for_local_threads())
        restoring = "; ".join(f"{c} is at {at} of {end}" for c, (_, at, end) in app.restore_progress().items())
        app.close()
        raise StartTimeoutError(
            f"application {app.config.application_id} did not run within {timeout.total_seconds():g} s: {doing}"
            + (f"; restoring: {restoring}" if restoring else "")
            + ". Give start(timeout=...) more, or see the log"
        )
    return app


class Starting:
    """An application on its way: ``async with start_async(...) as app``, or ``app = await start_async(...)``."""

    def __init__(self, topology: Topology, config: Mapping[str, Any] | StreamsConfig, options: dict[str, Any]) -> None:
        self._topology = topology
        self._config = config
        self._options = options
        self._app: KafkaStreams | None = None

    async def _start(self) -> KafkaStreams:
        starting = asyncio.ensure_future(asyncio.to_thread(start, self._topology, self._config, **self._options))
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            # the thread cannot be stopped: take what it returns, and close it
            starting.add_done_callback(_close_late)
            raise

    def __await__(self) -> Generator[Any, None, KafkaStreams]:
        return self._start().__await__()

    async def __aenter__(self) -> KafkaStreams:
        self._app = await self._start()
        return self._app

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._app is not None:
            await asyncio.to_thread(self._app.close)


def _close_late(starting: asyncio.Future[KafkaStreams]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().close(timedelta(0))


def start_async(
    topology: Topology,
    config: Mapping[str, Any] | StreamsConfig,
    *,
    timeout: timedelta = DEFAULT_TIMEOUT,
    state_listener: StateListener | None = None,
    uncaught_exception_handler: UncaughtExceptionHandler | None = None,
    restore_listener: StateRestoreListener | None = None,
    sensor: Sensor | None = None,
) -> Starting:
    """Start an application without blocking the event loop; await it, or use it as an asynchronous context manager.

    The application itself runs in its threads as ever. See `start` for the arguments.
    """
    options = {
        "timeout": timeout,
        "state_listener": state_listener,
        "uncaught_exception_handler": uncaught_exception_handler,
        "restore_listener": restore_listener,
        "sensor": sensor,
    }
    return Starting(topology, config, options)
