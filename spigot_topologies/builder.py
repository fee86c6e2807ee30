"""The builder of workflow topologies, and their life: start, stop, running."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from attrs import evolve, frozen

from spigot_topologies.handlers import TaskProcessor
from spigot_topologies.topologies import (
    MAX_STARTS,
    ManagerSupplier,
    WorkerSupplier,
    WorkflowTopic,
    add_manager,
    add_worker,
    has_manager,
)
from spigot_topologies.topologies.callbacks import Callbacks
from spigot_topologies.topologies.store import workflow_store
from spigot_topologies.topologies.worker import MAX_IN_FLIGHT, check_task_handler
from spigot_topologies.workflow import DEFAULT, Registry
from streamlet import ConfigError, KafkaStreams, Topology, TopologyError
from streamlet import start as start_streams

__all__ = ["RETENTION", "TopologyBuilder", "default_builder", "running", "start", "stop"]

RETENTION: Final = timedelta(days=7)
"""How long ended workflows are kept by default."""

_GUARANTEE = "processing.guarantee"
_EXACTLY_ONCE = "exactly_once_v2"


def default_builder() -> TopologyBuilder:
    """An empty builder."""
    return TopologyBuilder()


@frozen
class TopologyBuilder:
    """Builds a topology with a workflow manager, a task worker, or both. Each method returns a new builder."""

    _manager: ManagerSupplier | None = None
    _worker: WorkerSupplier | None = None

    def with_wf_topology(
        self,
        *,
        task_topic_cfg: WorkflowTopic,
        workflow_topic_cfg: WorkflowTopic,
        event_topic_cfg: WorkflowTopic | None = None,
        handler: Any = None,
        rejection_topic_cfg: WorkflowTopic | None = None,
        dead_letter_topic: str | None = None,
        retention: timedelta | None = RETENTION,
        registry: Registry = DEFAULT,
        store: str = "workflows",
        in_memory: bool = False,
        max_starts: int = MAX_STARTS,
    ) -> TopologyBuilder:
        """Adds the workflow manager.

        Args:
            task_topic_cfg: Where tasks are sent.
            workflow_topic_cfg: Where commands come from.
            event_topic_cfg: Where events go; None: no events.
            handler: A `WorkflowHandler`, which may be an `ErrorHandler` too. Without one, only ends are published:
                of a success the scope, of a failure the error.
            rejection_topic_cfg: Where the reason of each rejected command is published; None: they are only counted.
            dead_letter_topic: Where unreadable records go; None: the topic that the configuration names as
                `errors.dead.letter.queue.topic.name`, if it does.
            retention: How long ended workflows are kept, and their ids taken; None: for ever.
            registry: The words plans may use.
            store: Name of the store.
            in_memory: Keep the store in memory instead of in RocksDB; the changelog restores it.
            max_starts: How many tasks a transition may start; what is left follows in the next transactions.

        Raises:
            TopologyError: there is a manager already, or an argument is wrong.
        """
        if self._manager is not None:
            raise TopologyError("this builder has a workflow manager already")
        topics = {
            "task_topic_cfg": task_topic_cfg,
            "workflow_topic_cfg": workflow_topic_cfg,
            "event_topic_cfg": event_topic_cfg,
            "rejection_topic_cfg": rejection_topic_cfg,
        }
        _check_topics(topics, dead_letter_topic)
        if retention is not None and (not isinstance(retention, timedelta) or retention < timedelta(0)):
            raise TopologyError(f"retention must be a timedelta of 0 or more, or None, not {retention}")
        if max_starts < 1:
            raise TopologyError(f"max_starts must be at least 1, not {max_starts}")
        supplier = ManagerSupplier(
            Callbacks(handler),
            workflow_topic_cfg,
            task_topic_cfg,
            event_topic_cfg,
            rejection_topic_cfg,
            dead_letter_topic,
            retention,
            registry,
            workflow_store(store, in_memory=in_memory),
            max_starts,
        )
        return evolve(self, manager=supplier)

    def with_task_topology(
        self,
        *,
        handler: TaskProcessor,
        task_topic_cfg: WorkflowTopic,
        workflow_topic_cfg: WorkflowTopic,
        event_topic_cfg: WorkflowTopic | None = None,
        rejection_topic_cfg: WorkflowTopic | None = None,
        dead_letter_topic: str | None = None,
        max_in_flight: int = MAX_IN_FLIGHT,
        task_timeout: timedelta | None = None,
    ) -> TopologyBuilder:
        """Adds the task worker.

        Args:
            handler: A `TaskProcessor`, which may be an `ErrorHandler` too. Its `process_task` runs in threads, or on an
                event loop if it is a coroutine function; tasks of a partition end in any order.
            task_topic_cfg: Where tasks come from.
            workflow_topic_cfg: Where results and failures go.
            event_topic_cfg: Where what `on_error` returns is published; None: nowhere.
            rejection_topic_cfg: Where the reason of each refused record is published; None: they are only counted.
            dead_letter_topic: As for the manager.
            max_in_flight: How many tasks of a partition are in work at a time, 400 at most; 1: one after the other.
            task_timeout: How long `process_task` may take. A task that takes longer has failed, with a `TimeoutError`;
                a coroutine is cancelled, a thread is left to itself. None: any time.

        Raises:
            TopologyError: there is a worker already, or an argument is wrong.
        """
        if self._worker is not None:
            raise TopologyError("this builder has a task worker already")
        topics = {
            "task_topic_cfg": task_topic_cfg,
            "workflow_topic_cfg": workflow_topic_cfg,
            "event_topic_cfg": event_topic_cfg,
            "rejection_topic_cfg": rejection_topic_cfg,
        }
        _check_topics(topics, dead_letter_topic)
        check_task_handler(handler)
        supplier = WorkerSupplier(
            handler,
            task_topic_cfg,
            workflow_topic_cfg,
            event_topic_cfg,
            rejection_topic_cfg,
            dead_letter_topic,
            max_in_flight,
            task_timeout,
        )
        supplier.runner()  # checks the two
        return evolve(self, worker=supplier)

    def build(self) -> Topology:
        """The topology.

        Raises:
            TopologyError: there is neither a manager nor a worker.
        """
        if self._manager is None and self._worker is None:
            raise TopologyError("the builder is empty: call with_wf_topology, with_task_topology or both")
        topology = Topology()
        if self._manager is not None:
            add_manager(topology, self._manager)
        if self._worker is not None:
            add_worker(topology, self._worker)
        return topology


def start(topology: Topology, config: Mapping[str, Any], *, timeout: timedelta = timedelta(seconds=60)) -> KafkaStreams:
    """Starts a topology, and returns when it runs. `stop` ends it, as does leaving a `with` block.

    Args:
        topology: What the builder built.
        config: Kafka Streams' keys; `brokers` is another name of `bootstrap.servers`. The processing guarantee is
            `exactly_once_v2` unless it says otherwise.
        timeout: How long to wait.

    Raises:
        ConfigError: a key or a value is wrong; or a workflow manager is to run with `at_least_once`.
        StartTimeoutError: it does not run within the timeout.
    """
    if not isinstance(config, Mapping):
        raise ConfigError(f"the configuration must be a mapping of keys to values, not a {type(config).__name__}")
    settings = {_GUARANTEE: _EXACTLY_ONCE, **config}
    if has_manager(topology) and settings[_GUARANTEE] == "at_least_once":
        raise ConfigError(
            f"{_GUARANTEE}: a workflow manager needs '{_EXACTLY_ONCE}': a transition writes several entries, and one "
            "that is half written and then repeated leaves workflows hanging or failing. Workers may run with "
            "'at_least_once', in an application of their own"
        )
    return start_streams(topology, settings, timeout=timeout)


def stop(app: KafkaStreams, *, timeout: timedelta | None = None) -> bool:
    """Commits, closes and leaves the group; tells whether that was done within the timeout. Allowed more than once."""
    return app.close(timeout)


def running(app: KafkaStreams) -> bool:
    """Whether the application runs, or will as soon as its tasks have been dealt out."""
    return app.state.is_running_or_rebalancing


def _check_topics(topics: Mapping[str, WorkflowTopic | None], dead_letter_topic: str | None) -> None:
    names: dict[str, str] = {}
    for argument, topic in topics.items():
        if topic is None and argument not in ("task_topic_cfg", "workflow_topic_cfg"):
            continue
        if not isinstance(topic, WorkflowTopic):
            raise TopologyError(f"{argument} must be made with topic_cfg(name), not {topic!r}")
        if topic.name in names:
            raise TopologyError(f"{argument} and {names[topic.name]} are the same topic, {topic.name!r}")
        names[topic.name] = argument
    if dead_letter_topic in names:
        raise TopologyError(
            f"dead_letter_topic and {names[dead_letter_topic]} are the same topic, {dead_letter_topic!r}"
        )
