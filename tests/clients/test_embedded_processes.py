"""The embedded log across processes: concurrent use, SIGKILL, and the lock on a group."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from streamlet.clients import supplier_for
from streamlet.errors import LockError
from tests.clients.conftest import PATIENCE_SECONDS, drain, to_the_end

ROOT = Path(__file__).parents[2]

PRODUCE = """
import sys
from streamlet.clients import supplier_for
address, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
producer = supplier_for(address).producer({})
for n in range(count):
    producer.produce("shared", f"{name}-{n}", name, 0)
    if n % 7 == 0:
        producer.flush()
producer.flush()
"""

# Each transaction: one record to each of two topics, and an offset. What is committed is told on stdout.
TRANSACT = """
import sys
from confluent_kafka import TopicPartition
from streamlet.clients import supplier_for
supplier = supplier_for(sys.argv[1])
producer = supplier.producer({"transactional.id": "x"})
producer.init_transactions()
consumer = supplier.consumer({"group.id": "g"})
start = consumer.committed([TopicPartition("in", 0)])[0].offset
n = max(start, 0)
while True:
    producer.begin_transaction()
    for topic in ("left", "right"):
        producer.produce(topic, str(n), b"k" * 3000, 0)
    producer.send_offsets_to_transaction([TopicPartition("in", 0, n + 1)], consumer.consumer_group_metadata())
    producer.commit_transaction()
    print(n, flush=True)
    n += 1
"""

HOLD = """
import sys
from streamlet.clients import supplier_for
consumer = supplier_for(sys.argv[1]).consumer({"group.id": "app"})
consumer.subscribe(["t"])
consumer.poll(0)
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def running(script: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_processes_produce_and_read_at_once(tmp_path: Path) -> None:
    address = f"embedded:{tmp_path}/log.db"
    supplier = supplier_for(address)
    consumer = supplier.consumer({"group.id": "g"})
    consumer.assign([TopicPartition("shared", 0, 0)])
    own = supplier.producer({})
    count = 200
    with running(PRODUCE, address, "a", str(count)) as first, running(PRODUCE, address, "b", str(count)) as second:
        for n in range(count):
            own.produce("shared", f"own-{n}", "own", 0)
            own.flush()
        found = drain(consumer, 3 * count)
        assert first.wait(PATIENCE_SECONDS) == 0
        assert second.wait(PATIENCE_SECONDS) == 0
    assert [m.offset() for m in found] == list(range(3 * count))
    for name in ("a", "b", "own"):
        own_values = [m.value() for m in found if m.key() == name.encode()]
        assert own_values == [f"{name}-{n}".encode() for n in range(count)]


def test_two_processes_may_create_the_file_at_once(tmp_path: Path) -> None:
    address = f"embedded:{tmp_path}/log.db"
    with running(PRODUCE, address, "a", "1") as first, running(PRODUCE, address, "b", "1") as second:
        assert first.wait(PATIENCE_SECONDS) == 0
        assert second.wait(PATIENCE_SECONDS) == 0
    consumer = supplier_for(address).consumer({"group.id": "g"})
    consumer.assign([TopicPartition("shared", 0, 0)])
    assert {m.value() for m in drain(consumer, 2)} == {b"a-0", b"b-0"}


def test_sigkill_loses_nothing_acknowledged_and_shows_no_half_transaction(tmp_path: Path) -> None:
    address = f"embedded:{tmp_path}/log.db"
    acknowledged = -1
    for round_ in range(4):
        with running(TRANSACT, address) as process:
            assert process.stdout is not None
            for _ in range(5 + 20 * round_):
                acknowledged = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            process.wait(PATIENCE_SECONDS)
            rest = process.stdout.read().splitlines()
            # The last line may be cut short by the kill.
            acknowledged = max([acknowledged, *[int(line) for line in rest[:-1]]])
        supplier = supplier_for(address)
        read: dict[str, list[int]] = {}
        for topic in ("left", "right"):
            consumer = supplier.consumer({"group.id": "reader", "enable.partition.eof": True})
            consumer.assign([TopicPartition(topic, 0, 0)])
            read[topic] = [int(m.value() or b"") for m in to_the_end(consumer)]
        offset = supplier.consumer({"group.id": "g"}).committed([TopicPartition("in", 0)])[0].offset
        assert read["left"] == read["right"] == list(range(offset)), "all of a transaction, each once, or nothing"
        assert offset > acknowledged, "what was acknowledged is there"
        del supplier, consumer


def test_a_restarted_process_fences_one_that_still_runs(tmp_path: Path) -> None:
    address = f"embedded:{tmp_path}/log.db"
    with running(TRANSACT, address) as process:
        assert process.stdout is not None
        process.stdout.readline()
        successor = supplier_for(address).producer({"transactional.id": "x"})
        successor.init_transactions()
        assert process.wait(PATIENCE_SECONDS) == 1, "its next commit fails"


def test_a_second_process_of_a_group_is_refused_by_name_until_the_first_is_gone(tmp_path: Path) -> None:
    address = f"embedded:{tmp_path}/log.db"
    supplier = supplier_for(address)
    with running(HOLD, address) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(LockError, match=rf"group 'app' .* in use by process {process.pid}"):
            supplier.consumer({"group.id": "app"}).subscribe(["t"])
        other = supplier.consumer({"group.id": "another"})
        other.subscribe(["t"])
        other.close()
        os.kill(process.pid, signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)
    survivor = supplier.consumer({"group.id": "app"})
    survivor.subscribe(["t"])
    survivor.poll(0)
    assert len(survivor.assignment()) == 1
    survivor.close()


def test_a_forked_child_opens_the_log_anew(tmp_path: Path) -> None:
    address = f"embedded:{tmp_path}/log.db"
    producer = supplier_for(address).producer({})
    producer.produce("t", b"parent", partition=0)
    producer.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child = supplier_for(address).producer({})
            child.produce("t", b"child", partition=0)
            status = 0 if child.flush() == 0 else 1
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    consumer = supplier_for(address).consumer({"group.id": "g"})
    consumer.assign([TopicPartition("t", 0, 0)])
    assert [m.value() for m in drain(consumer, 2)] == [b"parent", b"child"]
