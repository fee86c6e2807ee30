"""The three applications of the demo, in whatever process: the manager, the workers, and the report.

Where they run is a matter of configuration: an embedded log in a directory, or a cluster.
"""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path
from typing import Any, Self

from attrs import frozen

from examples.blizzard import report
from examples.blizzard.ledger import Ledger
from examples.blizzard.workflow import Agent, Desk
from examples.support import create_topics
from spigot_topologies import WorkflowTopic, default_builder, start, topic_cfg
from streamlet import KafkaStreams
from streamlet import start as start_streams

PARTITIONS = 4


@frozen
class Setting:
    """Where it all happens.

    Attributes:
        brokers: The log: `embedded:FILE`, or a cluster's address.
        directory: For the ledger, and local state.
        name: Prefix of topics and applications.
        instance: Tells processes of one application apart that share the directory.
    """

    brokers: str
    directory: Path
    name: str
    instance: str

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Self:
        """From the command line."""
        directory = Path(arguments.dir)
        directory.mkdir(parents=True, exist_ok=True)
        name = arguments.name
        if name is None:  # a cluster may hold the topics of other runs; all processes of this one share the directory
            at_cluster = arguments.brokers is not None
            name = f"blizzard-{zlib.crc32(str(directory.resolve()).encode()):08x}" if at_cluster else "blizzard"
        brokers = arguments.brokers or f"embedded:{directory / 'log.db'}"
        return cls(brokers, directory, name, arguments.instance)

    @property
    def workflows(self) -> WorkflowTopic:
        """The topic of commands and results."""
        return topic_cfg(f"{self.name}-workflows")

    @property
    def tasks(self) -> WorkflowTopic:
        """The topic of tasks."""
        return topic_cfg(f"{self.name}-tasks")

    @property
    def events(self) -> WorkflowTopic:
        """The topic of events."""
        return topic_cfg(f"{self.name}-events")

    @property
    def ledger(self) -> Path:
        """The file of the ledger."""
        return self.directory / "ledger.db"

    def config(self, part: str, **more: Any) -> dict[str, Any]:
        """Configuration of one of the applications."""
        return {
            "application.id": f"{self.name}-{part}",
            "brokers": self.brokers,
            "state.dir": str(self.directory / "state" / self.instance),
            **more,
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What every process of the demo is told."""
    parser.add_argument(
        "--brokers", metavar="ADDRESS", help="a cluster, host:port,...; default: an embedded log in DIR"
    )
    parser.add_argument("--dir", help="directory of the log, the ledger and local state")
    parser.add_argument(
        "--name", help="prefix of topics and applications; default: blizzard, on a cluster with DIR's hash"
    )
    parser.add_argument("--instance", default="1", help="tells processes of one part apart that share DIR")


def make_topics(setting: Setting) -> None:
    """Make the topics, whichever process comes first."""
    create_topics(setting.brokers, [setting.workflows.name, setting.tasks.name, setting.events.name], PARTITIONS)


def start_manager(setting: Setting) -> KafkaStreams:
    """Start what follows the plans."""
    topology = (
        default_builder()
        .with_wf_topology(
            handler=Desk(),
            task_topic_cfg=setting.tasks,
            workflow_topic_cfg=setting.workflows,
            event_topic_cfg=setting.events,
        )
        .build()
    )
    return start(topology, setting.config("manager", **{"processing.guarantee": "exactly_once_v2"}))


def start_worker(setting: Setting, ledger: Ledger) -> KafkaStreams:
    """Start what does the tasks. At least once is enough: the ledger takes each once, the manager each result."""
    topology = (
        default_builder()
        .with_task_topology(handler=Agent(ledger), task_topic_cfg=setting.tasks, workflow_topic_cfg=setting.workflows)
        .build()
    )
    return start(topology, setting.config("worker", **{"processing.guarantee": "at_least_once"}))


def start_report(setting: Setting) -> KafkaStreams:
    """Start what adds up the events. Each must count once, so it runs with exactly-once as well."""
    topology = report.topology(setting.events)
    return start_streams(topology, setting.config("report", **{"processing.guarantee": "exactly_once_v2"}))
