"""The task processor: has tasks done, and sends their results and failures to the workflow."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import frozen

from spigot_topologies.errors import WireError, show, text_of
from spigot_topologies.topologies.callbacks import error_event
from spigot_topologies.topologies.refusals import Refusals
from spigot_topologies.topologies.topics import WorkflowTopic
from spigot_topologies.wire import (
    Event,
    EventHeaders,
    Extensions,
    Failure,
    Headers,
    Rejected,
    Result,
    TaskMessage,
    decode_task,
    encode,
    event_headers,
    extension_headers,
    read_event,
    read_extensions,
)
from streamlet import ControlError, Processor, ProcessorContext, Record, TopologyError

__all__ = ["RESULTS", "WORKER_EVENTS", "TaskWorker", "WorkerSupplier", "check_task_handler"]

_log = logging.getLogger(__name__)

RESULTS: Final = "task-results"
WORKER_EVENTS: Final = "task-events"
_MAX_ERROR_TEXT: Final = 10_000


@frozen
class WorkerSupplier:
    """Makes the workers of the partitions; what `with_task_topology` was given.

    Attributes:
        handler: The user's task processor.
        tasks: The task topic.
        workflows: The workflow topic.
        events: The event topic, if events of errors are wanted.
        rejections: The topic for rejections, if they are to be published.
        dead_letter_topic: The topic for unreadable records; None: what the configuration says.
    """

    handler: Any
    tasks: WorkflowTopic
    workflows: WorkflowTopic
    events: WorkflowTopic | None
    rejections: WorkflowTopic | None
    dead_letter_topic: str | None

    def __call__(self) -> TaskWorker:
        """A worker for one partition."""
        return TaskWorker(self)


def check_task_handler(handler: Any) -> None:
    """Raises `TopologyError` for what is no task processor."""
    if not callable(getattr(handler, "process_task", None)):
        raise TopologyError(f"{handler!r} is no task processor: give it a method process_task(ctx, task)")
    if inspect.iscoroutinefunction(getattr(handler, "on_error", None)):
        raise TopologyError(f"on_error of {handler!r} must be a plain function: what it returns is the event")


class TaskWorker(Processor[bytes, bytes, bytes, bytes]):
    """Does the tasks of one partition of the task topic, one after the other."""

    def __init__(self, settings: WorkerSupplier) -> None:
        self._settings = settings
        self._process_task: Callable[[Any, list[Any]], Any] = settings.handler.process_task
        self._on_error: Callable[..., Any] | None = getattr(settings.handler, "on_error", None)
        self._runner: asyncio.Runner | None = None

    def init(self, context: ProcessorContext[bytes, bytes]) -> None:
        """Takes note of where to send."""
        self.context = context
        self._refusals = Refusals(context, self._settings.rejections, self._settings.dead_letter_topic, "task")

    def close(self) -> None:
        """Ends the event loop, if coroutines have had one made."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def process(self, record: Record[bytes, bytes]) -> None:
        """Does a task."""
        task = decode_task(record.value, self._settings.tasks.codec)
        if isinstance(task, Rejected):
            self._refusals.refuse(record, task.reason, task.detail)
            return
        try:
            origin = self._origin(record, task)
        except WireError as error:
            self._refusals.refuse(record, "unknown-message", f"workflow-id has no form as a key: {error}")
            return
        if len(origin.key) > self._settings.workflows.max_bytes // 4:
            self._refusals.refuse(record, "oversize", f"a workflow-id of {len(origin.key):,} bytes")
            return
        try:
            result = self._run(task)
            self._send(origin, Result(task.task_id, result), record.timestamp)
        except ControlError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            try:
                self._failed(origin, task, error, record.timestamp)
            except WireError as unsent:
                self._refusals.refuse(record, unsent.reason, f"its failure cannot be sent: {unsent}")

    def _run(self, task: TaskMessage) -> Mapping[Any, Any] | None:
        result = self._process_task(task.ctx, task.task)
        if inspect.isawaitable(result):
            result = self._event_loop().run(_await(result))
        if result is not None and not isinstance(result, Mapping):
            raise TypeError(
                f"process_task must return a map or None for task {task.tag}, not a {type(result).__name__}"
            )
        return result

    def _event_loop(self) -> asyncio.Runner:
        if self._runner is None:
            self._runner = asyncio.Runner()
        return self._runner

    # --- what is sent -------------------------------------------------------------------------------------------------

    def _origin(self, record: Record[bytes, bytes], task: TaskMessage) -> _Origin:
        """Where the task came from: from the headers of a manager of this library, else as good as it can be known."""
        extensions = read_extensions(record.key, record.headers)
        told = read_event(record.headers) if extensions is not None else None
        if extensions is None or told is None:
            return _Origin(self._settings.workflows.key_serde.serialize(task.workflow_id), None, None)
        return _Origin(told.workflow_id, extensions, told)

    def _send(self, origin: _Origin, message: Result | Failure, timestamp: int) -> None:
        topic = self._settings.workflows
        headers: Headers = [] if origin.extensions is None else extension_headers(origin.key, origin.extensions)
        data = encode(message, topic.codec, max_bytes=topic.room_for_value(origin.key, headers))
        self.context.forward(Record(origin.key, data, timestamp, headers), RESULTS)

    def _failed(self, origin: _Origin, task: TaskMessage, error: BaseException, timestamp: int) -> None:
        # the workflow decides whether this is a failure or the plan's ordinary course
        _log.info(
            "task %s (%s) failed: %s", task.tag, task.task_id, show(error), exc_info=_log.isEnabledFor(logging.DEBUG)
        )
        self._publish(origin, task, error, timestamp)
        if origin.extensions is None:
            return  # a manager that does not understand failure messages: it would die of one
        message = text_of(error, _MAX_ERROR_TEXT)
        failure = Failure(task.task_id, {"message": message, "type": type(error).__name__})
        self._send(origin, failure, timestamp)

    def _publish(self, origin: _Origin, task: TaskMessage, error: BaseException, timestamp: int) -> None:
        value: Any
        if self._on_error is None:
            return
        try:
            value = self._on_error(task.ctx, error, None)
        except ControlError:
            raise
        except Exception as second:
            _log.warning("on_error for task %s (%s) raised %s", task.tag, task.task_id, show(second), exc_info=second)
            value = error_event(second)
        topic = self._settings.events
        if topic is None:
            return
        headers: Headers = []
        if origin.told is not None:
            headers = event_headers(EventHeaders(origin.key, origin.told.run_id, "running", origin.told.sequence))
        try:
            data = encode(Event(value), topic.codec, max_bytes=topic.room_for_value(origin.key, headers))
        except Exception as unwritable:  # a value of the handler's own classes may raise anything
            data = encode(Event(error_event(unwritable)), topic.codec)
        self.context.forward(Record(origin.key, data, timestamp, headers), WORKER_EVENTS)


@frozen
class _Origin:
    """Where a task came from.

    Attributes:
        key: The workflow's key, for what is sent back.
        extensions: What the manager said beside the message; None: it is not of this library.
        told: What it said about the workflow.
    """

    key: bytes
    extensions: Extensions | None
    told: EventHeaders | None


async def _await(awaitable: Any) -> Any:
    return await awaitable
