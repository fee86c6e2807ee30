"""Minutes of load on three brokers, with instances and brokers that are killed at random; and what must come of it."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from attrs import define, field
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from tests.kafka.cluster import Cluster
from tests.simulation import oracle

ROOT = Path(__file__).parents[2]
PARTITIONS = 6
WORDS = 40
KEYS = 60
OUTPUTS = (oracle.FORWARDED, *oracle.STORES)
_DRAIN_SECONDS = 180.0
_LONGEST_BROKER_PAUSE = 8.0
_LONGEST_INSTANCE_PAUSE = 3.0


class SoakError(AssertionError):
    """Records were lost or invented, or an instance ended by itself."""


@define
class Report:
    """What a run saw.

    Attributes:
        instance_kills: SIGKILLs of instances.
        broker_kills: SIGKILLs of brokers.
        written: Records of the input.
        outputs: Records of each output topic.
        drained: Seconds from the end of the load until everything was there.
        deaths: Instances that ended by themselves, with the end of what they said.
    """

    instance_kills: int = 0
    broker_kills: int = 0
    written: int = 0
    outputs: dict[str, int] = field(factory=dict)
    drained: float = 0.0
    deaths: list[str] = field(factory=list)


class Instance:
    """A process of the application, with a disk of its own."""

    def __init__(self, number: int, directory: Path, order: dict[str, Any]) -> None:
        self.number = number
        self.said = directory / f"instance-{number}.log"
        config = {**order["config"], "state.dir": str(directory / f"state-{number}")}
        self._order = json.dumps({**order, "config": config})
        self._output: TextIO | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._output = self.said.open("a")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.soak.app", self._order],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output,
        )  # fmt: skip

    def end(self, how: signal.Signals, timeout: float = 60.0) -> int | None:
        """End it; its exit code if it had not been running any more."""
        process, self.process = self.process, None
        if process is None:
            return None
        code = process.poll()
        if code is None:
            process.send_signal(how)
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        if self._output is not None:
            self._output.close()
        return code

    def tail(self) -> str:
        return "\n".join(self.said.read_text(errors="replace").splitlines()[-25:])


class Load:
    """Writes records to the input, at a steady rate, until it is stopped."""

    def __init__(self, servers: str, topic: str, seed: int, rate: float) -> None:
        self._topic = topic
        self._random = random.Random(seed)
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.timeout.ms": 300_000,
                "log_level": 2,
            }
        )
        self._rate = rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self.written = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop, and wait until everything is on the log."""
        self._stop.set()
        self._thread.join()
        left = self._producer.flush(120)
        if left:
            raise SoakError(f"{left} records of the input could not be written: the run says nothing")

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            for _ in range(max(1, int(self._rate * 0.05))):
                key = self._random.randrange(KEYS)
                self._producer.produce(self._topic, str(self.written), f"k{key}", key % PARTITIONS)
                self.written += 1
            self._producer.poll(0)


class Soak:
    """One run.

    Args:
        cluster: Three brokers.
        seed: Decides what is killed when, and what is written.
        guarantee: ``exactly_once_v2`` or ``at_least_once``.
        seconds: How long the load lasts.
        kills: How many processes are killed in that time.
        instances: How many there are.
        rate: Records a second.
        prefix: Of its topics on the cluster.
        say: Told how it goes.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        seed: int,
        guarantee: str,
        seconds: float,
        kills: int,
        instances: int = 3,
        rate: float = 200.0,
        prefix: str = "",
        say: Callable[[str], None] = print,
    ) -> None:
        self._cluster = cluster
        self._random = random.Random(seed)
        self._guarantee = guarantee
        self._seconds = seconds
        self._kills = kills
        self._say = say
        self._application = f"soak-{seed}"
        self.directory = Path(tempfile.mkdtemp(prefix="streamlet-soak-"))
        config = {
            "application.id": self._application,
            "bootstrap.servers": cluster.bootstrap_servers,
            "processing.guarantee": guarantee,
            "commit.interval.ms": 100,
            "replication.factor": 3,
            "consumer.session.timeout.ms": 3000,
            "consumer.heartbeat.interval.ms": 500,
            "producer.transaction.timeout.ms": 5000,
        }
        order = {"config": config, "words": WORDS, "prefix": prefix}
        self._prefix = prefix
        self._instances = [Instance(number, self.directory, order) for number in range(instances)]
        self._load = Load(cluster.bootstrap_servers, prefix + oracle.INPUT, seed, rate)
        self.report = Report()

    def run(self) -> Report:
        """Run, and compare.

        Raises:
            SoakError: See there.
        """
        for topic in (oracle.INPUT, *OUTPUTS):
            self._cluster.create_topic(self._prefix + topic, PARTITIONS)
        try:
            for instance in self._instances:
                instance.start()
            self._load.start()
            try:
                self._kill_at_random()
            finally:
                self._load.stop()
            self._await_results()
        finally:
            for instance in self._instances:
                self._note_death(instance, instance.end(signal.SIGTERM))
        self._compare()
        return self.report

    def _kill_at_random(self) -> None:
        began = time.monotonic()
        moments = sorted(self._random.uniform(0.05, 0.95) * self._seconds for _ in range(self._kills))
        restart: threading.Thread | None = None
        back: list[tuple[float, Instance]] = []
        while (now := time.monotonic() - began) < self._seconds or moments or back:
            time.sleep(0.05)  # kills come by the clock
            for entry in [entry for entry in back if entry[0] <= now]:
                entry[1].start()
                back.remove(entry)
            for instance in self._instances:
                if instance.process is not None and instance.process.poll() is not None:
                    self._note_death(instance, instance.end(signal.SIGKILL))
                    instance.start()
            if not moments or now < moments[0]:
                continue
            living = [instance for instance in self._instances if instance.process is not None]
            if not living:
                continue
            moments.pop(0)
            if self._random.random() < 0.3 and (restart is None or not restart.is_alive()):
                restart = self._kill_broker(now)
            else:
                instance = self._random.choice(living)
                self._note_death(instance, instance.end(signal.SIGKILL))
                self.report.instance_kills += 1
                back.append((now + self._random.uniform(0, _LONGEST_INSTANCE_PAUSE), instance))
                self._say(f"{now:6.1f} s  instance {instance.number} killed")
        if restart is not None:
            restart.join()

    def _kill_broker(self, now: float) -> threading.Thread:
        """Kill one; the thread that is returned starts it again, which takes its time."""
        broker = self._random.choice(self._cluster.broker_ids)
        pause = self._random.uniform(0, _LONGEST_BROKER_PAUSE)
        self._cluster.kill(broker)
        self.report.broker_kills += 1
        self._say(f"{now:6.1f} s  broker {broker} killed")

        def start() -> None:
            time.sleep(pause)
            self._cluster.start(broker, timeout=120)
            self._say(f"          broker {broker} is back")

        thread = threading.Thread(target=start, name=f"restart of broker {broker}")
        thread.start()
        return thread

    def _note_death(self, instance: Instance, code: int | None) -> None:
        if code is not None:
            self.report.deaths.append(f"instance {instance.number} ended by itself ({code}):\n{instance.tail()}")
            self._say(self.report.deaths[-1])

    def _await_results(self) -> None:
        """Wait until there are as many results as there must be, or nothing more comes."""
        began = time.monotonic()
        ends = dict.fromkeys(OUTPUTS, 0)
        readers = {topic: self._reader(topic) for topic in OUTPUTS}
        self.report.written = self._count_input()
        try:
            while time.monotonic() - began < _DRAIN_SECONDS:
                for topic, reader in readers.items():
                    ends[topic] += sum(message.error() is None for message in reader.consume(10_000, 0.05))
                if min(ends.values()) >= self.report.written:
                    break
        finally:
            for reader in readers.values():
                reader.close()
        self.report.drained = time.monotonic() - began
        self._say(f"load ended: {self.report.written} records; after {self.report.drained:.1f} s: {ends}")

    def _reader(self, topic: str) -> Consumer:
        consumer = Consumer(
            {
                "bootstrap.servers": self._cluster.bootstrap_servers,
                "group.id": "oracle",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "log_level": 2,
            }
        )
        consumer.assign([TopicPartition(self._prefix + topic, number, 0) for number in range(PARTITIONS)])
        return consumer

    def _count_input(self) -> int:
        return len(self._read(oracle.INPUT))

    def _read(self, topic: str) -> list[Any]:
        """All committed records of a topic, in the order of each partition."""
        consumer = self._reader(topic)
        try:
            ended: set[int] = set()
            found: list[Any] = []
            deadline = time.monotonic() + 120
            while len(ended) < PARTITIONS:
                if time.monotonic() > deadline:
                    raise SoakError(f"topic {topic} could not be read to its end")
                for message in consumer.consume(10_000, 0.2):
                    error = message.error()
                    if error is None:
                        found.append(message)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        ended.add(message.partition() or 0)
            return found
        finally:
            consumer.close()

    def _compare(self) -> None:
        records = [(m.key().decode(), m.value().decode()) for m in self._read(oracle.INPUT)]
        messages = {topic: self._read(topic) for topic in OUTPUTS}
        found = {topic: oracle.read(read, text=topic == oracle.FORWARDED) for topic, read in messages.items()}
        self.report.outputs = {topic: len(read) for topic, read in messages.items()}
        compare = oracle.compare_exactly if self._guarantee == "exactly_once_v2" else oracle.compare_least
        wrong = compare(oracle.expected(records, WORDS), found, set())
        if wrong:
            raise SoakError("\n  ".join([f"{len(wrong)} wrong results; logs in {self.directory}:", *wrong[:20]]))
        if self.report.deaths:
            raise SoakError("\n".join([f"results are right, but; logs in {self.directory}:", *self.report.deaths]))
