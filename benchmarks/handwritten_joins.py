"""Joins written by hand, as `handwritten` has the counts: each row goes to RocksDB and to a changelog as it comes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from rocksdict import Options, Rdict

from benchmarks.handwritten import Loop
from benchmarks.meter import Used
from benchmarks.work import JOIN_MS, Job

_TIME = struct.Struct(">QI")


def streams(job: Job, directory: Path) -> Used:
    """Join paid orders with open ones of the same key, within a window of time.

    Rows lie under key, time and number, as in Kafka Streams. Old ones are left to lie, which spares the loop something.
    """
    loop = Loop(job)
    sides = {paid: Rdict(str(directory / f"paid-{paid}"), Options(raw_mode=True)) for paid in (True, False)}
    changelog = f"{job.application}-changelog"
    produce, output = loop.produce, job.output
    loads, dumps, pack, unpack = orjson.loads, orjson.dumps, _TIME.pack, _TIME.unpack
    number = 0

    def process(messages: Sequence[Any]) -> None:
        nonlocal number
        for message in messages:
            key, value, timestamp = message.key(), message.value(), message.timestamp()[1]
            order = loads(value)
            paid = order["paid"]
            number += 1
            row = key + pack(timestamp, number)
            sides[paid].put(row, value)
            produce(changelog, value, row)
            end, size = timestamp + JOIN_MS, len(row)
            for found, other in sides[not paid].items(from_key=key + pack(max(timestamp - JOIN_MS, 0), 0)):
                if len(found) != size or not found.startswith(key) or unpack(found[-_TIME.size :])[0] > end:
                    break
                partner = loads(other)
                pair = (order, partner) if paid else (partner, order)
                produce(output, dumps({"paid": pair[0]["id"], "open": pair[1]["id"]}), key)

    used = loop.run(process)
    for side in sides.values():
        side.close()
    return used


def tables(job: Job, directory: Path) -> Used:
    """Join the last paid order of each key with the last open one."""
    loop = Loop(job)
    sides = {paid: Rdict(str(directory / f"paid-{paid}"), Options(raw_mode=True)) for paid in (True, False)}
    changelog = f"{job.application}-changelog"
    produce, output = loop.produce, job.output
    loads, dumps = orjson.loads, orjson.dumps

    def process(messages: Sequence[Any]) -> None:
        for message in messages:
            key, value = message.key(), message.value()
            order = loads(value)
            paid = order["paid"]
            sides[paid].put(key, value)
            produce(changelog, value, key)
            other = sides[not paid].get(key)
            if other is not None:
                partner = loads(other)
                pair = (order, partner) if paid else (partner, order)
                produce(output, dumps({"paid": pair[0]["id"], "open": pair[1]["id"]}), key)

    used = loop.run(process)
    for side in sides.values():
        side.close()
    return used
