"""An instance of the application under soak; runs until it is killed, or closes on SIGTERM.

python -m tests.soak.app '{"config": {...}, "words": 40, "prefix": ""}'
"""

from __future__ import annotations

import json
import logging
import sys

from streamlet.runtime.streams import KafkaStreams
from tests.simulation import oracle


def main() -> None:
    order = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s", stream=sys.stderr)
    with KafkaStreams(oracle.topology(order["words"], order["prefix"]), order["config"]) as app:
        app.start()
        app.wait()


if __name__ == "__main__":
    main()
