"""An application that kills itself at a fault point, or runs until it is killed. Run as a process by test_crashes.

python -m tests.runtime.crash_app '{"config": {...}, "prefix": "", "point": "AFTER_COMMIT", "nth": 3}'
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from streamlet import StreamsBuilder, Topic, serdes
from streamlet.runtime.hooks import NO_HOOKS, FaultPoint, Hooks
from streamlet.runtime.streams import KafkaStreams
from streamlet.state import rocksdb
from streamlet.topology import Topology
from tests.runtime.harness import At, LogUnderTest, word_count

WITHIN_A_WRITE = "WITHIN_A_WRITE"
"""The point at which a part of what a commit writes to a store is there."""


def values_per_group(log: LogUnderTest, config: Mapping[str, Any]) -> Topology:
    """Counts how many rows of the table of lines have each value."""
    builder = StreamsBuilder(default_key_serde=serdes.string, default_value_serde=serdes.string)
    builder.table(Topic(log.name("lines"), serdes.string, serdes.string), store="rows").group_by(
        lambda key, value: (value, key), name="by-value"
    ).count(store="groups").to_stream().to(Topic(log.name("counts"), serdes.string, serdes.int64))
    return builder.build(config)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def within_a_write(nth: int) -> Hooks:
    """Each entry is a batch of its own; the process dies behind the first batch that follows the nth commit."""
    make = rocksdb.WriteBatch
    made: list[int] = []

    def another(**options: Any) -> Any:
        if made:
            made[0] += 1
            if made[0] == 2:
                die()
        return make(**options)

    rocksdb.WriteBatch = another
    rocksdb._BATCH_BYTES = 1
    return At(FaultPoint.AFTER_COMMIT, lambda: made.append(0), nth)


def main() -> None:
    order = json.loads(sys.argv[1])
    log = LogUnderTest(order["config"]["bootstrap.servers"], Path(), lambda *_: None, order["prefix"])
    hooks = NO_HOOKS
    if order["point"] == WITHIN_A_WRITE:
        hooks = within_a_write(order["nth"])
    elif order["point"] is not None:
        hooks = At(FaultPoint[order["point"]], die, order["nth"])
    if order["program"] == "values_per_group":
        topology = values_per_group(log, order["config"])
    else:
        topology = word_count(log, repartition=order["repartition"])
    app = KafkaStreams(topology, order["config"], hooks=hooks)
    app.set_state_listener(lambda new, _: print(new.value, flush=True))
    with app:
        app.start()
        app.wait()


if __name__ == "__main__":
    main()
