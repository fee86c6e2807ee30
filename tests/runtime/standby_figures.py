"""How long a killed instance's tasks take to be back, with standby copies and without. Figures for docs/queries.md.

python -m tests.runtime.standby_figures [records]
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from streamlet.records import TaskId
from streamlet.runtime.lifecycle import State
from streamlet.runtime.streams import KafkaStreams
from tests.kafka.cluster import Cluster
from tests.runtime.harness import LogUnderTest, Recorder, eventually, word_count

PARTITIONS = 4


class Times:
    """A state listener that remembers when the application last began to rebalance."""

    def __init__(self) -> None:
        self.rebalancing = 0.0

    def __call__(self, new: State, old: State) -> None:
        if new is State.REBALANCING:
            self.rebalancing = monotonic()


def measure(log: LogUnderTest, records: int, replicas: int) -> tuple[int, float]:
    """Records restored, and seconds from the assignment of the killed instance's tasks until they run."""
    log.create("lines", PARTITIONS)
    log.create("counts", 1)

    def config(number: int) -> dict[str, Any]:
        return {
            **log.config(),
            "state.dir": str(log.directory / f"state{number}-{replicas}"),
            "num.standby.replicas": replicas,
            "consumer.session.timeout.ms": 3000,
            "consumer.heartbeat.interval.ms": 300,
        }

    sensor, times = Recorder(), Times()
    order = json.dumps({"config": config(1), "prefix": log.prefix})
    other = subprocess.Popen([sys.executable, "-m", "tests.runtime.standby_app", order])
    try:
        with KafkaStreams(word_count(log, repartition=False), config(0), sensor=sensor) as app:
            app.set_state_listener(times)
            app.start()
            assert app.wait_until_running(timedelta(minutes=1))
            eventually(lambda: len(tasks(app)) == PARTITIONS // 2)
            log.write("lines", ((f"key {number:09d}", "x") for number in range(records)))
            log.read("counts", lambda found: len(found) >= records, timeout=600)
            if replicas:
                eventually(lambda: len(list(app.store("counts", stale_stores=True).all())) == records, timeout=600)
            restored = sensor.restored
            other.kill()
            eventually(lambda: len(tasks(app)) == PARTITIONS and app.state is State.RUNNING, timeout=600)
            seconds = monotonic() - times.rebalancing
            assert len(list(app.store("counts").all())) == records
            return sensor.restored - restored, seconds
    finally:
        other.kill()
        other.wait()


def tasks(app: KafkaStreams) -> tuple[TaskId, ...]:
    """What it runs, or is about to."""
    return app.metadata_for_local_threads()[0].active_tasks


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 300_000
    with Cluster(1) as cluster, TemporaryDirectory() as directory:
        for replicas in (0, 1):
            log = LogUnderTest(
                cluster.bootstrap_servers,
                Path(directory),
                lambda name, partitions, configs: cluster.create_topic(name, partitions, configs=configs),
                cluster.unique("f") + "-",
            )
            restored, seconds = measure(log, records, replicas)
            print(f"{records} keys, num.standby.replicas={replicas}: {restored} records restored, {seconds:.2f} s")


if __name__ == "__main__":
    main()
