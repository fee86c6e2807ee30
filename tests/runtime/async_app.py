"""An application with concurrent calls that kills itself at a fault point, or runs until it is killed.

python -m tests.runtime.async_app '{"config": {...}, "prefix": "", "point": "AFTER_COMMIT", "nth": 3}'
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from zlib import crc32

from streamlet import serdes
from streamlet.dsl.builder import StreamsBuilder
from streamlet.runtime.hooks import NO_HOOKS, FaultPoint
from streamlet.runtime.streams import KafkaStreams
from streamlet.topic import Topic
from streamlet.topology import Topology
from tests.runtime.harness import At, LogUnderTest


async def unevenly(text: str) -> str:
    """Take a while, another one for each text, so that results come out of order."""
    await asyncio.sleep(crc32(text.encode()) % 16 / 1000)
    return text.upper()


def uneven(log: LogUnderTest) -> Topology:
    """Texts in upper case, each after a while of its own."""
    builder = StreamsBuilder()
    lines = builder.stream(Topic(log.name("lines"), serdes.string, serdes.string))
    out = Topic(log.name("out"), serdes.string, serdes.string)
    lines.map_values_async(unevenly, ordering="none", max_in_flight=16).to(out)
    return builder.build()


def main() -> None:
    order = json.loads(sys.argv[1])
    log = LogUnderTest(order["config"]["bootstrap.servers"], Path(), lambda *_: None, order["prefix"])
    hooks = NO_HOOKS
    if order["point"] is not None:
        hooks = At(FaultPoint[order["point"]], lambda: os.kill(os.getpid(), signal.SIGKILL), order["nth"])
    app = KafkaStreams(uneven(log), order["config"], hooks=hooks)
    app.set_state_listener(lambda new, _: print(new.value, flush=True))
    with app:
        app.start()
        app.wait()


if __name__ == "__main__":
    main()
