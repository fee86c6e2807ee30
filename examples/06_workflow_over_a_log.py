"""6. The same breakfast over topics: a manager that follows plans, workers that do tasks, a client that asks for it.

Here all three are in one process. In earnest each is a process of its own, as many as you like of each, with the
address of a cluster: the manager and the workers are applications of streamlet like any other.
"""

import sys
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from examples.support import create_topics
from spigot_topologies import (
    WorkflowClient,
    WorkflowView,
    default_builder,
    get,
    parallel,
    serial,
    start,
    stop,
    task,
    topic_cfg,
)

WORKFLOWS = topic_cfg("breakfast-workflows")
TASKS = topic_cfg("breakfast-tasks")
EVENTS = topic_cfg("breakfast-events")

BREAKFAST = serial(
    parallel(
        task("brew", in_={"cups": get("?guests")}, out={"?coffee": get("coffee")}),
        task("toast", in_={"slices": get("?slices")}, out={"?toast": get("toast")}),
    ),
    task("serve", in_={"tray": [get("?coffee"), get("?toast")]}, out={"?served": get("served")}),
)


class Kitchen:
    """Does the tasks. It may be given one twice, with the same `spigot/id`, if a worker dies."""

    def process_task(self, ctx: Any, task: list[Any]) -> Mapping[str, Any]:
        """Do `[tag, params]`."""
        tag, params = task
        if tag == "brew":
            return {"coffee": f"{params['cups']} cups of coffee"}
        if tag == "toast":
            return {"toast": f"{params['slices']} slices of toast"}
        return {"served": " and ".join(params["tray"])}


class Waiter:
    """Told how each workflow goes; what it returns goes to the event topic."""

    def on_create(self, ctx: Any, workflow: WorkflowView) -> Any:
        """The first tasks are on their way."""
        return {"order": "taken", "table": ctx["table"]}

    def on_update(self, ctx: Any, workflow: WorkflowView) -> Any:
        """A task has ended."""
        return {"order": "under way", "table": ctx["table"]}

    def on_complete(self, ctx: Any, workflow: WorkflowView) -> Any:
        """All is done."""
        return {"order": "served", "table": ctx["table"], "served": workflow.scope["?served"]}


def main(address: str = "embedded:") -> None:
    """Start both topologies, order a breakfast, and wait for it."""
    create_topics(address, [topic.name for topic in (WORKFLOWS, TASKS, EVENTS)])
    manager = default_builder().with_wf_topology(
        handler=Waiter(), task_topic_cfg=TASKS, workflow_topic_cfg=WORKFLOWS, event_topic_cfg=EVENTS
    )
    workers = default_builder().with_task_topology(
        handler=Kitchen(), task_topic_cfg=TASKS, workflow_topic_cfg=WORKFLOWS
    )
    apps = [
        start(manager.build(), {"application.id": "breakfast-manager", "brokers": address}),
        start(workers.build(), {"application.id": "breakfast-workers", "brokers": address}),
    ]
    try:
        with WorkflowClient({"brokers": address}, workflow_topic_cfg=WORKFLOWS, event_topic_cfg=EVENTS) as client:
            workflow_id = client.start(BREAKFAST, scope={"?guests": 2, "?slices": 4}, ctx={"table": 7})
            end = client.wait(workflow_id, timeout=timedelta(minutes=1))
        print(end.status + ":", end.value["served"])
    finally:
        for app in apps:
            stop(app)


if __name__ == "__main__":
    main(*sys.argv[1:])
