"""Workflows over Kafka: plans as plain data, a manager that runs them, workers that do their tasks.

Everything public is here; `spigot_topologies.plan`, `workflow`, `wire` and `handlers` hold what is needed less often.
"""

from spigot_topologies.builder import TopologyBuilder, default_builder, running, start, stop
from spigot_topologies.client import WorkflowClient, WorkflowEvent
from spigot_topologies.errors import CallbackError, PlanError, StaleViewError, WireError, WorkflowFailed
from spigot_topologies.handlers import ErrorHandler, TaskProcessor, WorkflowHandler, WorkflowView
from spigot_topologies.plan import (
    catch,
    check,
    each,
    get,
    isolate,
    parallel,
    parallelize,
    quote,
    serial,
    serialize,
    task,
    try_,
)
from spigot_topologies.topologies import WorkflowTopic, topic_cfg
from spigot_topologies.values import Char, Keyword, Symbol
from spigot_topologies.wire import create_wf_msg
from spigot_topologies.workflow import DEFAULT, Directive, Registry, Task, Verdict, Workflow, create, run

__all__ = [
    "DEFAULT",
    "CallbackError",
    "Char",
    "Directive",
    "ErrorHandler",
    "Keyword",
    "PlanError",
    "Registry",
    "StaleViewError",
    "Symbol",
    "Task",
    "TaskProcessor",
    "TopologyBuilder",
    "Verdict",
    "WireError",
    "Workflow",
    "WorkflowClient",
    "WorkflowEvent",
    "WorkflowFailed",
    "WorkflowHandler",
    "WorkflowTopic",
    "WorkflowView",
    "catch",
    "check",
    "create",
    "create_wf_msg",
    "default_builder",
    "each",
    "get",
    "isolate",
    "parallel",
    "parallelize",
    "quote",
    "run",
    "running",
    "serial",
    "serialize",
    "start",
    "stop",
    "task",
    "topic_cfg",
    "try_",
]
