"""An instance of the word count that runs until it is killed. Run as a process by test_standby.

python -m tests.runtime.standby_app '{"config": {...}, "prefix": ""}'
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from streamlet.runtime.streams import KafkaStreams
from tests.runtime.harness import LogUnderTest, word_count


def main() -> None:
    order = json.loads(sys.argv[1])
    log = LogUnderTest(order["config"]["bootstrap.servers"], Path(), lambda *_: None, order["prefix"])
    with KafkaStreams(word_count(log, repartition=False), order["config"]) as app:
        app.start()
        app.wait()


if __name__ == "__main__":
    main()
