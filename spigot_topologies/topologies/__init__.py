"""The workflow manager and the task processor, as streamlet processors."""

from spigot_topologies.topologies.manager import ERROR_HEADER, MAX_STARTS, ManagerSupplier, WorkflowManager
from spigot_topologies.topologies.topics import WorkflowTopic, topic_cfg
from spigot_topologies.topologies.wiring import add_manager, add_worker, has_manager
from spigot_topologies.topologies.worker import TaskWorker, WorkerSupplier

__all__ = [
    "ERROR_HEADER",
    "MAX_STARTS",
    "ManagerSupplier",
    "TaskWorker",
    "WorkerSupplier",
    "WorkflowManager",
    "WorkflowTopic",
    "add_manager",
    "add_worker",
    "has_manager",
    "topic_cfg",
]
