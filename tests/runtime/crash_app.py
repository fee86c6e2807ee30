"""An application that kills itself at a fault point, or runs until it is killed. Run as a process by test_crashes.

python -m tests.runtime.crash_app '{"config": {...}, "prefix": "", "point": "AFTER_COMMIT", "nth": 3}'
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from streamlet.runtime.hooks import NO_HOOKS, FaultPoint
from streamlet.runtime.streams import KafkaStreams
from tests.runtime.harness import At, LogUnderTest, word_count


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    order = json.loads(sys.argv[1])
    log = LogUnderTest(order["config"]["bootstrap.servers"], Path(), lambda *_: None, order["prefix"])
    hooks = NO_HOOKS
    if order["point"] is not None:
        hooks = At(FaultPoint[order["point"]], die, order["nth"])
    app = KafkaStreams(word_count(log, repartition=order["repartition"]), order["config"], hooks=hooks)
    app.set_state_listener(lambda new, _: print(new.value, flush=True))
    with app:
        app.start()
        app.wait()


if __name__ == "__main__":
    main()
