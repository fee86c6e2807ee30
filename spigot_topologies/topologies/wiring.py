"""How the processors stand in a topology: their sources, sinks and store."""

from __future__ import annotations

from typing import Any

from spigot_topologies.topologies.continuation import CONTINUATIONS, ContinuationSerde, own_partition
from spigot_topologies.topologies.manager import EVENTS, TASKS, ManagerSupplier
from spigot_topologies.topologies.refusals import DEAD_LETTERS, REJECTIONS, DeadLetterSerde, dead_letter_topic_of
from spigot_topologies.topologies.topics import WorkflowTopic
from spigot_topologies.topologies.worker import RESULTS, WORKER_EVENTS, WorkerSupplier
from streamlet import Topic, Topology, serdes

__all__ = ["add_manager", "add_worker", "has_manager"]

COMMANDS = "workflow-commands"
MANAGER = "workflow-manager"
TO_DO = "task-input"
RUNNER = "task-runner"
WORKER = "task-worker"


def add_manager(topology: Topology, supplier: ManagerSupplier) -> None:
    """Adds a workflow manager: it reads commands, and writes tasks, events and its own continuations."""
    topology.add_source(COMMANDS, _as_bytes(supplier.workflows))
    topology.add_processor(MANAGER, supplier, COMMANDS)
    topology.add_state_store(supplier.store, MANAGER)
    _add_sink(topology, TASKS, supplier.tasks, MANAGER)
    if supplier.events is not None:
        _add_sink(topology, EVENTS, supplier.events, MANAGER)
    again: Topic[bytes, Any] = Topic(supplier.workflows.name, serdes.bytes_, ContinuationSerde())
    topology.add_sink(CONTINUATIONS, again, MANAGER, partitioner=own_partition)
    _add_refusals(topology, supplier.rejections, MANAGER, "workflow")


def add_worker(topology: Topology, supplier: WorkerSupplier) -> None:
    """Adds a task worker: it reads tasks, and writes results, failures and events."""
    topology.add_source(TO_DO, _as_bytes(supplier.tasks))
    topology.add_processor(RUNNER, supplier.runner(), TO_DO)
    topology.add_processor(WORKER, supplier, RUNNER)
    _add_sink(topology, RESULTS, supplier.workflows, WORKER)
    if supplier.events is not None:
        _add_sink(topology, WORKER_EVENTS, supplier.events, WORKER)
    _add_refusals(topology, supplier.rejections, WORKER, "task")


def has_manager(topology: Topology) -> bool:
    """Whether a workflow manager is among the processors."""
    return any(
        isinstance(getattr(getattr(node, "operator", None), "supplier", None), ManagerSupplier)
        for node in topology.nodes
    )


def _add_refusals(topology: Topology, rejections: WorkflowTopic | None, processor: str, prefix: str) -> None:
    if rejections is not None:
        _add_sink(topology, f"{prefix}-{REJECTIONS}", rejections, processor)
    topology.add_sink(
        f"{prefix}-{DEAD_LETTERS}",
        dead_letter_topic_of,
        processor,
        key_serde=serdes.bytes_,
        value_serde=DeadLetterSerde(),
    )


def _add_sink(topology: Topology, name: str, topic: WorkflowTopic, processor: str) -> None:
    topology.add_sink(name, _as_bytes(topic), processor)


def _as_bytes(topic: WorkflowTopic) -> Topic[bytes, bytes]:
    """The topic for a processor that reads and writes its bytes itself: keys are compared as bytes."""
    return Topic(topic.name, serdes.bytes_, serdes.bytes_)
