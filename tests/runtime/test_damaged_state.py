"""Local state that was damaged on the disk: the application ends and says which; no record is skipped for it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from streamlet import KeyValueStore, Processor, ProcessorContext, Record, Stores, log_and_continue, serdes
from streamlet.dsl.builder import StreamsBuilder
from streamlet.errors import StateStoreError, StateUnreadableError
from streamlet.runtime.streams import KafkaStreams
from streamlet.topic import Topic
from streamlet.topology import Topology
from tests.runtime.harness import TIMEOUT, LogUnderTest, running

SEEN = Stores.key_value("seen", serdes.string, serdes.string)
SOON = timedelta(seconds=TIMEOUT)
KEYS = [f"k{number:04}" for number in range(2_000)]


class Before(Processor[str, str, str, str]):
    """Forwards what the key had before."""

    def __init__(self, scan: bool) -> None:
        self._scan = scan

    def init(self, context: ProcessorContext[str, str]) -> None:
        self.context = context
        self.seen: KeyValueStore[str, str] = context.get_state_store(SEEN)

    def process(self, record: Record[str, str]) -> None:
        if self._scan:
            before = dict(self.seen.range(record.key, record.key)).get(record.key)
        else:
            before = self.seen.get(record.key)
        self.seen.put(record.key, record.value)
        self.context.forward(record.with_value(str(before)))


def remembering(log: LogUnderTest, scan: bool) -> Topology:
    for topic in ("lines", "before"):
        log.create(topic)
    builder = StreamsBuilder()
    builder.add_state_store(SEEN)
    lines = builder.stream(Topic(log.name("lines"), serdes.string, serdes.string))
    before: Any = lines.process(lambda: Before(scan), stores=["seen"])
    before.to(Topic(log.name("before"), serdes.string, serdes.string))
    return builder.build()


def written(log: LogUnderTest, topology: Topology, config: dict[str, Any]) -> Path:
    """Have an application write its state; return where it is, in files of sorted keys."""
    with running(topology, config):
        log.write("lines", [(key, f"{key} " + "x" * 100) for key in KEYS])
        log.read("before", lambda found: len(found) >= len(KEYS))
    for _ in range(2):  # what the write-ahead log holds goes into files when the database is opened again
        with running(topology, config):
            pass
    return log.directory / "state" / "app" / "tasks" / "0_0"


@pytest.mark.parametrize("scan", [False, True])
def test_a_block_that_cannot_be_read_is_nobodys_record(embedded: LogUnderTest, scan: bool) -> None:
    config = embedded.config(processing_exception_handler=log_and_continue)
    topology = remembering(embedded, scan)
    directory = written(embedded, topology, config)
    tables = list(directory.rglob("*.sst"))
    assert tables
    for table in tables:
        data = bytearray(table.read_bytes())
        middle = len(data) // 3
        data[middle : middle + 16] = bytes(16)
        if len(data) > 10_000:  # that of the positions is left as it is
            table.write_bytes(data)
    app = KafkaStreams(topology, config)
    app.start()
    embedded.write("lines", [(key, "again") for key in KEYS])
    with pytest.raises(StateUnreadableError, match="store 'seen' cannot be read"):
        app.wait(SOON)
    shutil.rmtree(directory)
    with running(topology, config):  # from the changelog
        found = embedded.read("before", lambda found: len(found) >= 2 * len(KEYS))
    again = {message.key().decode(): message.value().decode() for message in found[len(KEYS) :]}
    assert again == {key: f"{key} " + "x" * 100 for key in KEYS}


@pytest.mark.parametrize("file", ["CURRENT", "MANIFEST-*", "*.sst"])
def test_a_database_that_cannot_be_opened_is_named(embedded: LogUnderTest, file: str) -> None:
    config = embedded.config()
    topology = remembering(embedded, scan=False)
    directory = written(embedded, topology, config)
    for path in directory.rglob(file):
        path.write_bytes(b"not what it was\n")
    app = KafkaStreams(topology, config)
    app.start()
    with pytest.raises(
        StateStoreError, match=rf"RocksDB in {directory}.* could not be opened(.|\n)*delete the directory"
    ):
        app.wait(SOON)
    shutil.rmtree(directory)
    with running(topology, config):
        embedded.write("lines", [(KEYS[7], "again")])
        found = embedded.read("before", lambda found: len(found) > len(KEYS))
    assert found[-1].value().decode() == f"{KEYS[7]} " + "x" * 100


def test_after_a_full_disk_it_goes_on_in_the_same_process(guarantee: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.runtime.full_disk_app", guarantee, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "StateStoreError: RocksDB in" in said["error"]
    assert "could not be written" in said["error"]
    assert said["complete"]
