"""A manager or a worker in a process of its own, to be killed: `python -m tests.spigot.topologies.app ROLE BROKERS`."""

from __future__ import annotations

import sys
from typing import Any

from spigot_topologies import (
    WorkflowTopic,
    catch,
    default_builder,
    each,
    get,
    parallelize,
    serial,
    start,
    task,
    topic_cfg,
    try_,
)
from streamlet import Topology

MAX_STARTS = 50


class Doubles:
    """Doubles a number; every seventh fails, for a `try` to catch."""

    def process_task(self, ctx: Any, task: list[Any]) -> Any:
        tag, params = task
        number = params["x"]
        if tag == "double" and number % 7 == 3:
            raise ValueError(f"no {number}")
        return {"out": number * 2 if tag == "double" else -number}


def plan(throttle: int | None) -> Any:
    """For each item: double it, or where that fails, turn its sign."""
    item = try_(
        task("double", in_={"x": get("?x")}, out={"?r": get("out")}),
        catch("?e", task("negate", in_={"x": get("?x")}, out={"?r": get("out")})),
    )
    options = {} if throttle is None else {"throttle": throttle}
    return parallelize("?x", get("?items"), into={"?all": each(get("?r"))}, do=serial(item), **options)


def expected(count: int) -> list[int]:
    return [-number if number % 7 == 3 else number * 2 for number in range(count)]


def topics(prefix: str = "") -> tuple[WorkflowTopic, WorkflowTopic, WorkflowTopic]:
    return topic_cfg(f"{prefix}workflows"), topic_cfg(f"{prefix}tasks"), topic_cfg(f"{prefix}events")


class Progress:
    """Publishes an event for every command, so that a test sees how far things are."""

    def on_update(self, ctx: Any, workflow: Any) -> Any:
        return "on"

    def on_complete(self, ctx: Any, workflow: Any) -> Any:
        return dict(workflow.scope)


def topology(role: str, prefix: str = "", max_starts: int = MAX_STARTS) -> Topology:
    workflows, tasks, events = topics(prefix)
    builder = default_builder()
    if role in ("manager", "both"):
        builder = builder.with_wf_topology(
            handler=Progress(),
            task_topic_cfg=tasks,
            workflow_topic_cfg=workflows,
            event_topic_cfg=events,
            max_starts=max_starts,
        )
    if role in ("worker", "both"):
        builder = builder.with_task_topology(handler=Doubles(), task_topic_cfg=tasks, workflow_topic_cfg=workflows)
    return builder.build()


def config(role: str, brokers: str, prefix: str = "", state_dir: str | None = None) -> dict[str, Any]:
    given = {"application.id": f"{prefix}{role}-app", "brokers": brokers, "commit.interval.ms": 20}
    return {**given, "state.dir": state_dir} if state_dir else given


def main(role: str, brokers: str, prefix: str = "", state_dir: str = "") -> None:
    with start(topology(role, prefix), config(role, brokers, prefix, state_dir or None)) as app:
        print("running", flush=True)
        app.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
