"""One schedule: instances of an application, step by step in one thread, with faults; all from a seed."""

from __future__ import annotations

import contextlib
import random
import shutil
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock
from uuid import UUID

from attrs import frozen
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewTopic

from streamlet.clients.embedded import EmbeddedSupplier, cleaning, discard
from streamlet.clients.embedded.faults import Faults
from streamlet.config import StreamsConfig
from streamlet.metrics import Sensor
from streamlet.runtime.failures import InstanceHeldError
from streamlet.runtime.hooks import FaultPoint, Hooks
from streamlet.runtime.prepare import Preparation
from streamlet.runtime.thread import StreamThread
from streamlet.state import StateDirectory, StateMemory
from streamlet.time import ManualClock
from streamlet.topology import Topology
from tests.simulation import oracle
from tests.simulation.clients import FaultyConsumer, FaultySupplier
from tests.simulation.disk import Disks

APPLICATION = "simulated"
START_MS = 1_700_000_000_000
PARTITIONS = 2
_QUIET_TURNS = 2_500
_MEMORY = StateMemory(16 << 20)


class Crash(BaseException):
    """The machine died."""


class ScheduleError(AssertionError):
    """What a schedule found out; the message has the seed that repeats it."""


class Stepped(StreamThread):
    """A stream thread whose turns the schedule takes, in its own thread."""

    def open(self) -> None:
        self._open()

    def turn(self) -> None:
        try:
            self._turn()
        except InstanceHeldError as held:
            self._join_again(held)

    def close(self) -> None:
        self._close(None)

    @property
    def settled(self) -> bool:
        """Whether everything it has is committed and nothing is on its way."""
        return (
            self._set.ready
            and self._drained
            and not self._restorer.active
            and self._assignment.changes == self._seen_changes
            and not any(task.uncommitted or task.pinned for task in self._set.running)
        )

    @property
    def careful(self) -> bool:
        """Whether it replays record by record."""
        return self._careful.active

    @property
    def failing(self) -> bool:
        """Whether something was refused, or took too long, and has not worked since."""
        return (
            self._failing_since is not None
            or self._too_slow_for is not None
            or any(task.attempts_since is not None for task in self._set.all)
        )

    def stores(self) -> dict[tuple[str, int], dict[bytes, bytes]]:
        """What the stores of its tasks hold, by name and partition."""
        return {
            (store.name, task.id.partition): dict(task.state._backends[store.name].scan(None, None))
            for task in self._set.running
            for store in task.sub_topology.stores
        }

    def drop(self) -> None:
        """Release what a dead process would not hold any more."""
        if hasattr(self, "_set"):
            for task in self._set.all:
                task.state.close()


@frozen
class Rates:
    """How likely faults are, at each call where they can happen."""

    call: float
    record: float
    crash: float
    others: float

    @classmethod
    def draw(cls, chance: random.Random) -> Rates:
        """Calm schedules and wild ones."""
        level = chance.choice([0.0, 0.01, 0.03, 0.1])
        crash = chance.choice([0.0, 0.0005, 0.002, 0.005])
        return cls(level, level / 20, crash, chance.choice([0.0, 0.02, 0.1]))


# What can happen at a client's call, besides a crash.
FAULTS = frozenset(
    {
        "abortable", "commit refused", "committed times out", "committed, but fenced before it knew", "consume error",
        "consume few", "consume nothing", "expelled", "fenced", "flush times out", "list_offsets fails",
        "not delivered", "queue full", "record refused", "send_offsets fails", "sent before the purge",
        "system error", "watermarks time out",
    }
)  # fmt: skip
_PER_RECORD = frozenset({"queue full", "not delivered", "abortable", "record refused"})
_ALWAYS = frozenset({"sent before the purge", "system error"})


class Instance(Hooks, Sensor):
    """A machine of the cluster with one instance: its disk survives it.

    Attributes:
        forced: Faults that are to happen, once each, with the kind of it that is to be picked.
    """

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.exactly_once = world.exactly_once
        self.root = world.directory / f"machine-{number}"
        self.thread: Stepped | None = None
        self.busy = False
        self.dead = False
        self.life: Life | None = None
        self.forced: dict[str, Any] = {}

    def start(self) -> None:
        """Start, from what the disk holds."""
        world = self.world
        self.dead = False
        self.life = Life(self)
        try:
            with world.calm():
                self.thread = self.life.open()
        except Crash:
            self.bury()

    def step(self) -> None:
        """One turn of its loop."""
        assert self.thread is not None
        self.busy = True
        try:
            self.thread.turn()
            if self.dead:  # died in a callback, which never raises
                raise Crash
        except Crash:
            self.bury()
        finally:
            self.busy = False

    @property
    def tasks(self) -> tuple[Any, ...]:
        """What it owns."""
        return () if self.thread is None else self.thread.task_ids

    def close(self) -> None:
        """Close as a process does that is asked to."""
        assert self.thread is not None
        assert self.life is not None
        self.busy = True
        try:
            self.thread.close()
            if self.dead:
                raise Crash
            self.life.directory.close()
            self.life, self.thread = None, None
        except Crash:
            self.bury()
        finally:
            self.busy = False

    def bury(self) -> None:
        """The process is gone; the group learns of it when the session ends."""
        self.dead = True
        life, thread = self.life, self.thread
        self.life, self.thread = None, None
        if life is not None:
            if thread is None:
                thread = life.thread
            if thread is not None:
                thread.drop()
            life.bury()

    # --- hooks

    def reached(self, point: FaultPoint) -> None:
        self.world.note(point.name)
        if self.world.happens(self.world.rates.crash * 20):
            self.world.note("crash " + point.name)
            self.die()
        self.call(f"hook {point.name}")

    def on_abort(self, thread: str, reason: str) -> None:
        self.world.aborts += 1

    def die(self) -> None:
        self.dead = True
        raise Crash

    def cut(self, entries: int) -> int | None:
        """How many of the entries of a write are on the disk when the machine dies within it; None: it does not."""
        if not self.world.happens(self.world.rates.crash * 20):
            return None
        self.world.note("write cut off")
        return self.world.random.randint(1, entries)

    # --- for its clients

    def call(self, what: str) -> None:
        world = self.world
        if self.dead:
            raise Crash
        world.now += 1
        world.trace(self, what)
        world.clock.advance(timedelta(milliseconds=world.random.choice((0, 0, 0, 1, 3))))
        if what == "producer.produce":
            return
        if world.happens(world.rates.crash):
            world.note("crash")
            self.die()
        if world.happens(world.rates.others):
            world.step_another(self)

    def chance(self, what: str) -> bool:
        if what in self.forced:
            return True
        if what in self.world.without:
            return False
        if what == "record refused" and (self.thread is None or self.thread.careful):
            return False  # a record that is refused again is at fault, and ends the application
        rate = 0.5 if what in _ALWAYS else self.world.rates.record if what in _PER_RECORD else self.world.rates.call
        if self.world.happens(rate):
            self.world.note(what)
            self.world.trace(self, "FAULT " + what)
            return True
        return False

    def pick(self, choices: Sequence[Any]) -> Any:
        for name, choice in self.forced.items():
            if choice in choices:
                del self.forced[name]  # it happens once
                return choice
        return self.world.random.choice(choices)

    def wait(self, seconds: float) -> None:
        self.world.clock.advance(timedelta(seconds=seconds))


class Life:
    """One process of an instance, from start to end."""

    def __init__(self, machine: Instance) -> None:
        self.machine = machine
        world = machine.world
        self.supplier = FaultySupplier(machine, world.log)
        self.directory = StateDirectory(machine.root, APPLICATION, clock=world.clock)
        self.thread: Stepped | None = None

    def open(self) -> Stepped:
        machine, world = self.machine, self.machine.world
        preparation = Preparation(
            world.topology(),
            world.config(machine.root),
            supplier=self.supplier,  # type: ignore[arg-type]  # its clients pass most calls on
            clock=world.clock,
            sensor=machine,
            hooks=machine,
            directory=self.directory,
            memory=_MEMORY,
            on_shutdown_request=lambda _: None,
            on_plan_changed=lambda: None,
        )
        self.thread = Stepped(preparation.run(None), 1, changed=lambda _: None, died=lambda *_: None)
        self.thread.open()
        return self.thread

    def bury(self) -> None:
        """What remains of a dead process: its lock is free, its member is in the group until the session ends."""
        world = self.machine.world
        for producer in self.supplier.plain:
            producer.break_off()
        self.directory.close()
        for consumer in self.supplier.consumers:
            if consumer.inner._member is not None:
                world.ghosts.append(consumer)


class World:
    """A log, machines, and a schedule.

    Args:
        seed: Decides everything.
        exactly_once: The guarantee.
        verbose: Print each call.
        machines: How many; default: as the seed has it.
        without: Faults that do not happen (of `FAULTS`).
        most_acts: How many steps it has at the most.
    """

    def __init__(
        self,
        seed: int,
        *,
        exactly_once: bool,
        verbose: bool = False,
        machines: int | None = None,
        without: Collection[str] = (),
        most_acts: int | None = None,
    ) -> None:
        self.seed = seed
        self.without = frozenset(without)
        self.most_acts = most_acts
        self.exactly_once = exactly_once
        self.verbose = verbose
        self.random = random.Random(seed)
        self.rates = Rates.draw(self.random)
        self.clock = ManualClock(START_MS)
        self.topology: Callable[[], Topology] = oracle.topology
        self.now = 0
        self.aborts = 0
        self.counts: Counter[str] = Counter()
        self.ghosts: list[FaultyConsumer] = []
        self.tainted: set[str] = set()
        self.records: list[tuple[str, str]] = []
        self._calm = 0
        self._depth = 0
        self.directory = Path(tempfile.mkdtemp(prefix="streamlet-simulation-", dir=_ram()))
        self.address = f"embedded:mem:simulation-{seed}-{exactly_once}"
        self.log = EmbeddedSupplier.open(self.address)
        self.disks = Disks()
        self.faults = Faults(self.log)
        self.admin = self.log.admin({})
        self.writer = self.log.producer({"linger.ms": 10_000_000})
        names = (oracle.INPUT, oracle.FORWARDED, *oracle.STORES)
        topics = [NewTopic(name, PARTITIONS, config={"retention.ms": "-1"}) for name in names]
        for future in self.admin.create_topics(topics).values():
            future.result()
        count = self.random.choice((1, 2, 2, 3)) if machines is None else machines
        self.machines = [Instance(self, number) for number in range(count)]

    def config(self, root: Path) -> StreamsConfig:
        return StreamsConfig.parse(
            {
                "application.id": APPLICATION,
                "bootstrap.servers": self.address,
                "processing.guarantee": "exactly_once_v2" if self.exactly_once else "at_least_once",
                "state.dir": str(root),
                "commit.interval.ms": 50,
                "repartition.purge.interval.ms": 200,
                "task.timeout.ms": 3_600_000,
            }
        )

    # --- chance

    def happens(self, rate: float) -> bool:
        return rate > 0 and not self._calm and self.random.random() < rate

    def note(self, what: str) -> None:
        self.counts[what] += 1

    def trace(self, machine: Instance, what: str) -> None:
        if self.verbose:
            print(f"{self.now:6} {self.clock.wall_ms() - START_MS:7} ms  machine {machine.number}  {what}")

    @contextlib.contextmanager
    def calm(self) -> Iterator[None]:
        """No faults."""
        self._calm += 1
        try:
            yield
        finally:
            self._calm -= 1

    # --- what happens

    def run(self) -> None:
        """Run the schedule.

        Raises:
            ScheduleError: Records were lost or invented, or an instance ended or made no progress.
        """
        with self.determined():
            try:
                for machine in self.machines:
                    machine.start()
                acts = self.random.choice((30, 80, 160))
                for _ in range(acts if self.most_acts is None else min(acts, self.most_acts)):
                    self._act()
                with self.calm():
                    self.settle()
                    self.verify()
                    self._verify_restarts()
            except ScheduleError:
                raise
            except Exception as error:
                raise self.failure(f"an instance failed: {error!r}\n{traceback.format_exc()}") from error
            finally:
                self.close()

    def failure(self, text: str) -> ScheduleError:
        """The error, with what repeats it."""
        guarantee = "exactly_once_v2" if self.exactly_once else "at_least_once"
        narrowed = "".join(f" --without '{fault}'" for fault in sorted(self.without))
        if self.most_acts is not None:
            narrowed += f" --most-acts {self.most_acts}"
        return ScheduleError(
            f"seed {self.seed}, {guarantee}: {text}\n"
            f"repeat with: python -m tests.simulation --seed {self.seed} --guarantee {guarantee} --verbose{narrowed}"
        )

    def _act(self) -> None:
        what = self.random.random()
        if what < 0.15:
            self.write(self.random.randint(1, 12))
        elif what < 0.17:
            self._bury_ghosts()
        elif what < 0.18:
            self.clock.advance(timedelta(milliseconds=self.random.choice((10, 100, 1000))))
            # a process that is frozen for two days between two failures has made no progress in that time: it may end
            if self.random.random() < 0.1 and not any(m.thread is not None and m.thread.failing for m in self.machines):
                self.clock.advance(timedelta(days=2))
        elif what < 0.19:
            cleaning.clean(self.log.broker.log, self.clock.wall_ms(), force=True)
            self.note("compaction")
        elif what < 0.20 and self.rates.crash:
            self._outage()
        else:
            machine = self.random.choice(self.machines)
            if machine.thread is None:
                machine.start()
            elif self.random.random() < 0.01:
                self.note("close")
                machine.close()
            else:
                machine.step()

    def _outage(self) -> None:
        """All die; meanwhile the log, or a disk, may suffer."""
        self.note("outage")
        for machine in self.machines:
            if machine.life is not None:
                machine.bury()
        self._bury_ghosts(every=True)
        kind = self.random.choice(("", "", "disk", "truncate", "recreate"))
        store = self.random.choice(oracle.STORES)
        topic = f"{APPLICATION}-{store}-changelog"
        if kind == "disk":
            self.disks.wipe(self.random.choice(self.machines).root)
        elif kind and topic in self.log.broker.log.topics:
            self.note(kind)
            self.tainted |= {store, *({"cycles"} if store == "words" else ())}
            if kind == "recreate":
                self.admin.delete_topics([topic])[topic].result()
            else:
                for number in range(PARTITIONS):
                    partition = self.log.broker.log.partition(topic, number)
                    assert partition is not None
                    start, end = partition.start, partition.end
                    self.faults.truncate(topic, number, self.random.randint(start, end))
                    if self.random.random() < 0.7:  # and it grows again, by what another has written
                        self.grow(topic, number, end + self.random.choice((0, 0, 3)))

    def grow(self, topic: str, number: int, end: int) -> None:
        producer = self.log.producer({"linger.ms": 10_000_000})
        partition = self.log.broker.log.partition(topic, number)
        assert partition is not None
        for _ in range(partition.end, end):
            producer.produce(topic, (1).to_bytes(8, "big"), b"grown", number, timestamp=START_MS)
        producer.flush()

    def write(self, count: int) -> None:
        for _ in range(count):
            key, value = f"k{self.random.randrange(6)}", str(len(self.records))
            self.records.append((key, value))
            stamp = self.clock.wall_ms() - self.random.choice((0, 0, 5, 500))
            self.writer.produce(oracle.INPUT, value, key, int(key[1:]) % PARTITIONS, timestamp=stamp)
        self.writer.flush()

    def _bury_ghosts(self, *, every: bool = False) -> None:
        """Sessions of dead members end."""
        while self.ghosts:
            self.ghosts.pop(0).expel()
            if not every:
                return

    def step_another(self, busy: Instance) -> None:
        """While one machine waits in a call, others go on."""
        if self._depth >= 2:
            return
        free = [machine for machine in self.machines if not machine.busy and machine.thread is not None]
        if not free:
            return
        self._depth += 1
        try:
            for _ in range(self.random.choice((1, 1, 5))):
                machine = self.random.choice(free)
                if machine.thread is not None:
                    machine.step()
        finally:
            self._depth -= 1

    # --- the end

    def settle(self) -> None:
        """Without further faults: everything is taken in and committed."""
        self._bury_ghosts(every=True)
        for machine in self.machines:
            if machine.thread is None:
                machine.start()
        quiet = 0
        for _ in range(_QUIET_TURNS):
            for machine in self.machines:
                machine.step()
            settled = all(m.thread is not None and m.thread.settled for m in self.machines)
            quiet = quiet + 1 if settled else 0
            if quiet > 3 and not self._lag():
                return
        raise self.failure(f"no end of it after {_QUIET_TURNS} turns each; lag: {self._lag()}")

    def _lag(self) -> dict[tuple[str, int], tuple[int, int]]:
        committed = self.log.broker.log.committed(APPLICATION)
        lag = {}
        for name in (oracle.INPUT, *(t for t in self.log.broker.log.topics if t.endswith("-repartition"))):
            for number in range(PARTITIONS):
                messages = self._messages(name, number)
                at = committed.get((name, number))
                last = messages[-1].offset() + 1 if messages else 0
                if last and (at is None or at.offset < last):
                    lag[name, number] = (-1 if at is None else at.offset, last)
        return lag

    def _messages(self, topic: str, number: int) -> list[Any]:
        consumer = self.log.consumer({"group.id": "oracle", "auto.offset.reset": "earliest"})
        try:
            consumer.assign([TopicPartition(topic, number, self.log.broker.log.topics[topic].partitions[number].start)])
            return [message for message in consumer.consume(1_000_000, 0) if message.error() is None]
        finally:
            consumer.close()

    def read(self, topic: str) -> dict[str, list[Any]]:
        """What is in an output topic, by key."""
        messages = [message for number in range(PARTITIONS) for message in self._messages(topic, number)]
        return oracle.read(messages, text=topic == oracle.FORWARDED)

    def verify(self) -> None:
        found = {topic: self.read(topic) for topic in (oracle.FORWARDED, *oracle.STORES)}
        compare = oracle.compare_exactly if self.exactly_once else oracle.compare_least
        wrong = compare(oracle.expected(self.records), found, self.tainted)
        if wrong:
            raise self.failure("\n  ".join(["wrong results:", *wrong]))
        self.verify_stores("running")

    def verify_stores(self, when: str) -> None:
        """Each store holds what its changelog says."""
        seen: set[tuple[str, int]] = set()
        for machine in self.machines:
            if machine.thread is None:
                continue
            for (store, number), data in machine.thread.stores().items():
                seen.add((store, number))
                wanted = self.changelog(store, number)
                if data != wanted:
                    raise self.failure(
                        f"{when}: store {store}[{number}] of machine {machine.number} holds {data}, "
                        f"its changelog says {wanted}"
                    )
        missing = {(store, number) for store in oracle.STORES for number in range(PARTITIONS)} - seen
        if missing:
            raise self.failure(f"{when}: nobody has {missing}")

    def changelog(self, store: str, number: int) -> dict[bytes, bytes]:
        """What a store must hold."""
        data: dict[bytes, bytes] = {}
        for message in self._messages(f"{APPLICATION}-{store}-changelog", number):
            if message.value() is None:
                data.pop(message.key(), None)
            else:
                data[message.key()] = message.timestamp()[1].to_bytes(8, "big") + message.value()
        return data

    def _verify_restarts(self) -> None:
        """Each machine alone, with what is on its disk, and an empty one: their stores are those of the changelogs."""
        machines = self.machines
        for machine in machines:
            machine.close()
        for machine in (*machines, Instance(self, len(machines))):
            self.machines = [machine]
            self.settle()
            self.verify_stores("after a restart")
            machine.close()

    # --- the ends of the world

    @contextlib.contextmanager
    def determined(self) -> Iterator[None]:
        """Nothing of it is left to the real machine: names, waits and disks are the simulation's."""
        names = random.Random(self.seed)
        waits = self

        class Waited:
            def wait(self, timeout: float) -> bool:
                waits.clock.advance(timedelta(seconds=timeout))
                return False

        def uuid4() -> UUID:
            return UUID(int=names.getrandbits(128), version=4)

        def database(path: Path, families: Sequence[str], cache: Any) -> Any:
            machine = next(m for m in self.machines if path.is_relative_to(m.root))
            return self.disks.open(path, families, machine.cut, machine.die)

        state = random.getstate()
        random.seed(self.seed)
        try:
            with (
                mock.patch("uuid.uuid4", uuid4),
                mock.patch("streamlet.runtime.plan.uuid4", uuid4),
                mock.patch("streamlet.runtime.internal_topics.Event", Waited),
                mock.patch("streamlet.state.rocksdb.RocksDatabase", database),
            ):
                yield
        finally:
            random.setstate(state)

    def close(self) -> None:
        for machine in self.machines:
            if machine.life is not None:
                machine.bury()
        self.ghosts.clear()
        self.log.broker.keeper.stop()
        discard(self.address.removeprefix("embedded:mem:"))
        shutil.rmtree(self.directory, ignore_errors=True)


def _ram() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def run(
    seed: int,
    *,
    exactly_once: bool,
    verbose: bool = False,
    without: Collection[str] = (),
    most_acts: int | None = None,
) -> World:
    """Run a schedule; see `World.run`."""
    world = World(seed, exactly_once=exactly_once, verbose=verbose, without=without, most_acts=most_acts)
    world.run()
    return world
