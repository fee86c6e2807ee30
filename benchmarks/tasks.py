"""The task worker: each task is done at once, so that all the cost is the way there and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.handwritten import Loop
from benchmarks.meter import Used
from benchmarks.work import Job
from spigot_topologies import default_builder, topic_cfg
from spigot_topologies.wire import Rejected, Result, decode_task, encode, extension_headers, read_event, read_extensions
from streamlet import Topology


class Worker:
    """Has its result at once."""

    def process_task(self, ctx: Any, task: list[Any]) -> Mapping[str, Any]:
        """Do `[tag, params]`."""
        return {"seat": "12A", "id": task[1]["who"]["id"]}


def application(job: Job) -> Topology:
    """The task worker of this library."""
    tasks, workflows = topic_cfg(job.input), topic_cfg(job.output)
    builder = default_builder()
    return builder.with_task_topology(handler=Worker(), task_topic_cfg=tasks, workflow_topic_cfg=workflows).build()


def loop(job: Job, directory: Path) -> Used:
    """Read a task, call the handler, send the result to the workflow: one after the other, with the library's codec."""
    by_hand = Loop(job)
    codec, output, produce, handler = topic_cfg(job.input).codec, job.output, by_hand.producer.produce, Worker()

    def process(messages: Sequence[Any]) -> None:
        for message in messages:
            task = decode_task(message.value(), codec)
            headers = message.headers()
            extensions, told = read_extensions(message.key(), headers), read_event(headers)
            if isinstance(task, Rejected) or extensions is None or told is None:
                raise RuntimeError(f"no task: {message.value()!r}")
            key = told.workflow_id
            result = Result(task.task_id, handler.process_task(task.ctx, task.task))
            produce(output, encode(result, codec), key, headers=extension_headers(key, extensions))

    return by_hand.run(process)
