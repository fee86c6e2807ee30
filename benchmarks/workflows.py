"""Workflows end to end: client, manager (exactly once) and worker over one log, in one process.

`python -m benchmarks.workflows SERVERS DIRECTORY WORKFLOWS ITEMS PREFIX` prints one measurement as JSON: each workflow
is a chain of 10 tasks, or a loop over ITEMS items if that is not 0.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import attrs
import orjson
from confluent_kafka.cimpl import NewTopic

from benchmarks.meter import Used, between, now
from spigot_topologies import (
    WorkflowClient,
    WorkflowView,
    default_builder,
    get,
    parallelize,
    serial,
    start,
    stop,
    task,
    topic_cfg,
)
from streamlet import supplier_for

CHAIN = 10
_PATIENCE = timedelta(minutes=3)


class Worker:
    """Has its result at once."""

    def process_task(self, ctx: Any, task: list[Any]) -> Mapping[str, Any]:
        """Do `[tag, params]`."""
        return {"seat": "12A"}


class Manager:
    """Tells the client of the end only."""

    def on_create(self, ctx: Any, workflow: WorkflowView) -> Any:
        """Nothing to tell."""
        return None

    def on_update(self, ctx: Any, workflow: WorkflowView) -> Any:
        """Nothing to tell."""
        return None

    def on_complete(self, ctx: Any, workflow: WorkflowView) -> Any:
        """The end."""
        return {"end": True}


def run(servers: str, directory: Path, workflows: int, items: int, prefix: str) -> Used:
    """Run so many workflows, all started at once, and return what their tasks took; without the applications' start."""
    topics = {name: topic_cfg(f"{prefix}-{name}") for name in ("workflows", "tasks", "events")}
    admin = supplier_for(servers).admin({})
    for future in admin.create_topics([NewTopic(topic.name, num_partitions=1) for topic in topics.values()]).values():
        future.result(30)
    builder = (
        default_builder()
        .with_wf_topology(
            handler=Manager(),
            task_topic_cfg=topics["tasks"],
            workflow_topic_cfg=topics["workflows"],
            event_topic_cfg=topics["events"],
        )
        .with_task_topology(handler=Worker(), task_topic_cfg=topics["tasks"], workflow_topic_cfg=topics["workflows"])
    )
    step = task("step", out={"?seat": get("seat")})
    plan: Any = serial(*[step] * CHAIN)
    if items:
        plan = parallelize("?who", get("?items"), throttle=100, do=task("step", in_={"who": get("?who")}))
    app = start(
        builder.build(), {"application.id": f"{prefix}-app", "brokers": servers, "state.dir": str(directory / "state")}
    )
    try:
        with WorkflowClient(
            {"brokers": servers}, workflow_topic_cfg=topics["workflows"], event_topic_cfg=topics["events"]
        ) as client:
            scope = {"?items": [{"id": number} for number in range(items)]} if items else {}
            began = now()
            ids = [client.start(plan, scope=scope) for _ in range(workflows)]
            for workflow_id in ids:
                client.wait(workflow_id, timeout=_PATIENCE)
            return between(began, now(workflows * (items or CHAIN)))
    finally:
        stop(app)


def measure(servers: str, directory: Path, workflows: int, items: int, prefix: str) -> Used:
    """Run them in a process of their own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.workflows",
        servers,
        str(directory),
        str(workflows),
        str(items),
        prefix,
    ]
    finished = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=_PATIENCE.total_seconds() * 2)
    return Used(**orjson.loads(finished.stdout.splitlines()[-1]))


HEADER = f"{'log':9} {'workflows, end to end':34} {'workflows/s':>12} {'tasks/s':>9} {'CPU ms a task':>14}"


def row(log: str, workflows: int, items: int, used: Used) -> str:
    """One line of the table."""
    name = f"{workflows} of a loop of {items:,} tasks" if items else f"{workflows} of {CHAIN} tasks in a row"
    return f"{log:9} {name:34} {workflows / used.wall:12.1f} {used.rate:9.0f} {used.cpu / used.done * 1000:14.2f}"


def main() -> None:
    servers, directory, workflows, items, prefix = sys.argv[1:]
    used = run(servers, Path(directory), int(workflows), int(items), prefix)
    print(orjson.dumps(attrs.asdict(used)).decode())


if __name__ == "__main__":
    main()
