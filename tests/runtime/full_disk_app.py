"""An application whose disk becomes full, and then has room again; `test_damaged_state` runs it.

A limit on the size of files stands for the disk: it holds for the whole process, which is therefore one of its own. The
log is in memory. It prints the error that ended the first run, and whether the store of the second run is complete.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from datetime import timedelta

from streamlet import StreamsBuilder, Topic, serdes
from streamlet.clients import supplier_for
from tests.runtime.harness import TIMEOUT, eventually, running

RECORDS = 3_000
ROOM = 200_000
ADDRESS = "embedded:"


def main(guarantee: str, directory: str) -> None:
    """Run it twice, the first time out of room."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    supplier = supplier_for(ADDRESS)
    builder = StreamsBuilder()
    lines = builder.stream(Topic("lines", serdes.string, serdes.string))
    lines.group_by_key().reduce(lambda _old, new: new, store="newest").to_stream().to(
        Topic("out", serdes.string, serdes.string)
    )
    topology = builder.build()
    config = {
        "application.id": "app",
        "bootstrap.servers": ADDRESS,
        "processing.guarantee": guarantee,
        "state.dir": directory,
    }
    app = running(topology, config, supplier=supplier)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, hard))
    producer = supplier.producer({})
    for number in range(RECORDS):
        producer.produce("lines", f"{number} ".encode() + b"x" * 300, f"k{number}".encode())
    producer.flush(TIMEOUT)
    error: BaseException | None = None  # kept, as somebody may: what it refers to must not hold up the second run
    try:
        app.wait(timedelta(seconds=TIMEOUT))
    except Exception as raised:
        error = raised
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with running(topology, config, supplier=supplier) as again:
        store = again.store("newest")
        last = f"k{RECORDS - 1}"
        eventually(lambda: store.get(last) is not None)
        complete = all(store.get(f"k{n}") == f"{n} " + "x" * 300 for n in range(RECORDS))
    print(json.dumps({"error": f"{type(error).__name__}: {error}", "complete": complete}))


if __name__ == "__main__":
    main(*sys.argv[1:])
