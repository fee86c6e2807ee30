"""A manager, or a worker, under the test driver: with its messages as objects on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from attrs import frozen

from spigot_topologies import create_wf_msg, default_builder, topic_cfg
from spigot_topologies.wire import (
    EventHeaders,
    Extensions,
    Failure,
    Result,
    TaskMessage,
    decode_task,
    extension_headers,
    read_event,
    read_extensions,
)
from streamlet import Record, Topic, Topology, TopologyTestDriver, serdes

WORKFLOWS, TASKS, EVENTS = "workflows", "tasks", "events"
REJECTIONS, DEAD = "rejections", "dead-letters"


@frozen
class SentTask:
    """A task as the manager sent it."""

    id: UUID
    tag: str
    params: dict[Any, Any]
    key: bytes
    workflow_key: bytes
    headers: list[tuple[str, bytes | None]]
    message: TaskMessage

    @property
    def run_id(self) -> UUID:
        extensions = read_extensions(self.key, self.headers)
        assert extensions is not None
        return extensions.run_id


@frozen
class SentEvent:
    """An event as it was published."""

    key: bytes
    value: Any
    said: EventHeaders | None
    headers: dict[str, bytes | None]

    @property
    def status(self) -> str:
        assert self.said is not None
        return self.said.status


class Recorder:
    """A handler that remembers what it was told; an entry is (method, ctx, id, status, extra)."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.errors: list[BaseException] = []

    def _seen(self, name: str, ctx: Any, workflow: Any) -> Any:
        self.calls.append((name, ctx, workflow.id, workflow.status, dict(workflow.scope)))
        return {"event": name}

    def on_create(self, ctx: Any, workflow: Any) -> Any:
        return self._seen("on_create", ctx, workflow)

    def on_update(self, ctx: Any, workflow: Any) -> Any:
        return self._seen("on_update", ctx, workflow)

    def on_complete(self, ctx: Any, workflow: Any) -> Any:
        return self._seen("on_complete", ctx, workflow)

    def on_error(self, ctx: Any, error: BaseException, workflow: Any) -> Any:
        self.errors.append(error)
        return self._seen("on_error", ctx, workflow)

    @property
    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


class Bench:
    """A topology under the driver.

    Args:
        topology: The topology; default: a manager made with `options`.
        codec: Of all topics.
        config: For the driver.
        options: For `with_wf_topology`.
    """

    def __init__(
        self,
        topology: Topology | None = None,
        *,
        codec: str = "json",
        config: Mapping[str, Any] | None = None,
        events: bool = True,
        **options: Any,
    ) -> None:
        self.workflows = topic_cfg(WORKFLOWS, codec)
        self.tasks_topic = topic_cfg(TASKS, codec)
        self.events_topic = topic_cfg(EVENTS, codec)
        self.rejections_topic = topic_cfg(REJECTIONS, codec)
        self.codec = self.workflows.codec
        if topology is None:
            options = {
                "event_topic_cfg": self.events_topic if events else None,
                "rejection_topic_cfg": self.rejections_topic,
                "dead_letter_topic": DEAD,
                **options,
            }
            topology = (
                default_builder()
                .with_wf_topology(task_topic_cfg=self.tasks_topic, workflow_topic_cfg=self.workflows, **options)
                .build()
            )
        self.driver = TopologyTestDriver(topology, config, initial_wall_clock_time=1_000_000)
        raw: dict[str, Topic[bytes, bytes]] = {
            name: Topic(name, serdes.bytes_, serdes.bytes_) for name in (WORKFLOWS, TASKS, EVENTS, REJECTIONS, DEAD)
        }
        self._inputs = {
            name: self.driver.create_input_topic(raw[name], start_timestamp=1_000) for name in (WORKFLOWS, TASKS)
        }
        self._outputs = {name: self.driver.create_output_topic(topic) for name, topic in raw.items()}

    # --- in -----------------------------------------------------------------------------------------------------------

    def key(self, workflow_id: Any) -> bytes:
        return self.workflows.key_serde.serialize(workflow_id)

    def pipe(self, key: bytes | None, value: bytes | None, topic: str = WORKFLOWS, headers: Any = ()) -> None:
        self._inputs[topic].pipe_raw(key, value, headers=tuple(headers))

    def send(self, workflow_id: Any, message: Any, headers: Any = ()) -> None:
        self.pipe(self.key(workflow_id), self.workflows.value_serde.serialize(message), headers=headers)

    def create(self, workflow_id: Any, plan: Any, scope: Any = None, ctx: Any = None, **params: Any) -> None:
        self.send(workflow_id, create_wf_msg({**params, "workflows/form": plan, "workflows/ctx": scope}, ctx))

    def succeed(self, workflow_id: Any, task: SentTask | UUID, result: Any = None) -> None:
        self.send(workflow_id, Result(task.id if isinstance(task, SentTask) else task, result))

    def fail(self, workflow_id: Any, task: SentTask | UUID, error: Any = None) -> None:
        self.send(workflow_id, Failure(task.id if isinstance(task, SentTask) else task, error))

    # --- out ----------------------------------------------------------------------------------------------------------

    def records(self, topic: str) -> list[Record[bytes, bytes]]:
        return self._outputs[topic].read_records_to_list()

    def tasks(self) -> list[SentTask]:
        """The tasks sent since the last call."""
        sent = []
        for record in self.records(TASKS):
            message = decode_task(record.value, self.codec)
            assert isinstance(message, TaskMessage)
            params = dict(message.params)
            id = params.pop("spigot/id")
            headers = [*record.headers]
            sent.append(SentTask(id, message.tag, params, record.key, self.key(message.workflow_id), headers, message))
        return sent

    def events(self) -> list[SentEvent]:
        """The events published since the last call."""
        return [
            SentEvent(record.key, self.codec.read(record.value), read_event(record.headers), dict(record.headers))
            for record in self.records(EVENTS)
        ]

    def rejections(self) -> list[str]:
        """The reasons published since the last call."""
        return [self.codec.read(record.value)["reason"] for record in self.records(REJECTIONS)]

    def dropped(self, reason: str) -> float:
        return sum(count for name, count in self.driver.metrics().items() if name.endswith(f"reason={reason}}}"))

    def store(self, name: str = "workflows") -> Any:
        return self.driver.get_state_store(name)

    def entries(self) -> dict[bytes, bytes]:
        with self.store().all() as entries:
            return dict(entries)

    def close(self) -> None:
        self.driver.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def worker_bench(handler: Any, *, codec: str = "json", **options: Any) -> Bench:
    """A worker alone."""
    topology = (
        default_builder()
        .with_task_topology(
            handler=handler,
            task_topic_cfg=topic_cfg(TASKS, codec),
            workflow_topic_cfg=topic_cfg(WORKFLOWS, codec),
            **{
                "event_topic_cfg": topic_cfg(EVENTS, codec),
                "rejection_topic_cfg": topic_cfg(REJECTIONS, codec),
                "dead_letter_topic": DEAD,
                **options,
            },
        )
        .build()
    )
    return Bench(topology, codec=codec)


def task_headers(key: bytes, run_id: UUID, attempt: int = 1) -> list[tuple[str, bytes | None]]:
    return extension_headers(key, Extensions(run_id, attempt))
