"""Joins written by hand, as `handwritten` has the counts: each row goes to RocksDB and to a changelog as it comes.

Each side has a store and a changelog of its own, as in Kafka Streams and in streamlet: in one compacted topic for both,
the rows of one side would replace those of the other. The local stores run ahead of the log; after a crash a loop under
exactly-once would have to build them anew from their changelogs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import orjson
from rocksdict import Options, Rdict

from benchmarks.handwritten import Loop
from benchmarks.meter import Used
from benchmarks.work import JOIN_MS, Job, changelogs

_TIME = struct.Struct(">QI")

Place: TypeAlias = Callable[[bytes, int], bytes]
"""From a record's key and time (ms) to that of its row."""
Partners: TypeAlias = Callable[[Any, bytes, int], Iterable[bytes]]
"""From the other side's store and a record's key and time (ms) to the rows it is joined with."""


def _join(job: Job, directory: Path, place: Place, partners: Partners) -> Used:
    """Keep each paid or open order, and join it with those of the other side that are its partners."""
    loop = Loop(job)
    stores = {paid: Rdict(str(directory / f"paid-{paid}"), Options(raw_mode=True)) for paid in (True, False)}
    logs = dict(zip(stores, changelogs(job.kind, job.application), strict=True))
    produce, output, loads, dumps = loop.produce, job.output, orjson.loads, orjson.dumps

    def process(messages: Sequence[Any]) -> None:
        for message in messages:
            key, value, timestamp = message.key(), message.value(), message.timestamp()[1]
            order = loads(value)
            paid = order["paid"]
            row = place(key, timestamp)
            stores[paid].put(row, value)
            produce(logs[paid], value, row)
            for other in partners(stores[not paid], key, timestamp):
                partner = loads(other)
                pair = (order, partner) if paid else (partner, order)
                produce(output, dumps({"paid": pair[0]["id"], "open": pair[1]["id"]}), key)

    used = loop.run(process)
    for store in stores.values():
        store.close()
    return used


def streams(job: Job, directory: Path) -> Used:
    """Join paid orders with open ones of the same key, within a window of time.

    Rows lie under key, time and number, as in Kafka Streams. Old ones are left to lie, and late ones are not looked
    for, which spares the loop something.
    """
    pack, unpack, time_bytes = _TIME.pack, _TIME.unpack, _TIME.size
    number = 0

    def place(key: bytes, timestamp: int) -> bytes:
        nonlocal number
        number += 1
        return key + pack(timestamp, number)

    def partners(store: Any, key: bytes, timestamp: int) -> Iterable[bytes]:
        end, size = timestamp + JOIN_MS, len(key) + time_bytes
        for found, other in store.items(from_key=key + pack(max(timestamp - JOIN_MS, 0), 0)):
            if len(found) != size or not found.startswith(key) or unpack(found[-time_bytes:])[0] > end:
                break
            yield other

    return _join(job, directory, place, partners)


def tables(job: Job, directory: Path) -> Used:
    """Join the last paid order of each key with the last open one."""

    def place(key: bytes, timestamp: int) -> bytes:
        return key

    def partners(store: Any, key: bytes, timestamp: int) -> Iterable[bytes]:
        other = store.get(key)
        return () if other is None else (other,)

    return _join(job, directory, place, partners)
