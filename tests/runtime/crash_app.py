"""An application that kills itself at a fault point, or runs until it is killed. Run as a process by test_crashes.

python -m tests.runtime.crash_app '{"config": {...}, "prefix": "", "point": "AFTER_COMMIT", "nth": 3}'
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from streamlet.runtime.hooks import NO_HOOKS, FaultPoint, Hooks
from streamlet.runtime.streams import KafkaStreams
from streamlet.state import rocksdb
from tests.runtime.harness import At, LogUnderTest, word_count


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def within_a_write(nth: int) -> Hooks:
    """Each entry is a batch, and the process dies behind the first one that follows the nth commit of the log."""
    made: list[int] = []
    batch = rocksdb.WriteBatch

    def another(**options: Any) -> Any:
        if made:
            made[0] += 1
            if made[0] == 2:
                die()
        return batch(**options)

    rocksdb.WriteBatch = another
    rocksdb._BATCH_BYTES = 1
    return At(FaultPoint.AFTER_COMMIT, lambda: made.append(0), nth)


def main() -> None:
    order = json.loads(sys.argv[1])
    log = LogUnderTest(order["config"]["bootstrap.servers"], Path(), lambda *_: None, order["prefix"])
    hooks = NO_HOOKS
    if order["point"] == "WITHIN_A_WRITE":
        hooks = within_a_write(order["nth"])
    elif order["point"] is not None:
        hooks = At(FaultPoint[order["point"]], die, order["nth"])
    app = KafkaStreams(word_count(log, repartition=order["repartition"]), order["config"], hooks=hooks)
    app.set_state_listener(lambda new, _: print(new.value, flush=True))
    with app:
        app.start()
        app.wait()


if __name__ == "__main__":
    main()
