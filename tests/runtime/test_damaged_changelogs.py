"""SIGKILL, and before the restart the changelog changes: the state is rebuilt from what is there now, and only then.

What is right is computed from the two logs alone: the last count of each key in the changelog as it is now, and one
more for each line behind the committed offset.
"""

from __future__ import annotations

import shutil
import signal
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from streamlet.clients.embedded import EmbeddedSupplier
from streamlet.clients.embedded.faults import Faults
from streamlet.records import TaskId
from streamlet.runtime.streams import KafkaStreams
from streamlet.state import Position, StateMemory, TaskState
from tests.runtime.conftest import embedded_log
from tests.runtime.crash_app import WITHIN_A_WRITE
from tests.runtime.harness import TIMEOUT, LogUnderTest, eventually, last_counts, word_count
from tests.runtime.test_crashes import QUICK, Starts, every_count, spawn

POINTS = (WITHIN_A_WRITE, "AFTER_COMMIT", "AFTER_STORES")
LINES = [f"k{n % 50}" for n in range(2_000)]
MORE = ["k1", "k2", "new"]


@frozen
class Killed:
    """What a killed process has left.

    Attributes:
        log: The log.
        config: With which it ran, and is started again.
        position: How far the changelog is in the store.
        unfinished: How far a write that was cut off was to reach.
    """

    log: LogUnderTest
    config: dict[str, Any]
    position: Position
    unfinished: Position | None

    @property
    def changelog(self) -> str:
        """The name of the changelog."""
        return f"{self.config['application.id']}-counts-changelog"

    @property
    def end(self) -> int:
        """Where the changelog ends; -1 while it is being made."""
        consumer = self.log.supplier.consumer({"group.id": self.log.name("looks")})
        try:
            return int(consumer.get_watermark_offsets(TopicPartition(self.changelog, 0), timeout=TIMEOUT)[1])
        except KafkaException as error:
            if error.args[0].code() != KafkaError._UNKNOWN_PARTITION:
                raise
            return -1
        finally:
            consumer.close()

    def grow(self, end: int) -> None:
        """Let the changelog grow by what another has written."""
        while (missing := end - self.end) > 0:
            self.write((f"k{n % 60}", 1_000 + n) for n in range(missing))

    def write(self, counts: Iterable[tuple[str, int]]) -> None:
        """Append to the changelog."""
        producer = self.log.supplier.producer({})
        for key, count in counts:
            producer.produce(self.changelog, struct.pack(">q", count), key)
        assert producer.flush(TIMEOUT) == 0


def killed(log: LogUnderTest, guarantee: str, point: str) -> Killed:
    """Let the application count lines until it is killed in its third commit."""
    log.create("lines")
    log.create("counts")
    log.write("lines", [(key, "x") for key in LINES])
    config = {**log.config(guarantee=guarantee), **QUICK}
    app = spawn(log, config, point, nth=3)
    _, said = app.communicate(timeout=TIMEOUT)
    assert app.returncode == -signal.SIGKILL, said
    directory = Path(config["state.dir"]) / config["application.id"] / "tasks" / str(TaskId(0, 0))
    state = TaskState.open(
        word_count(log, repartition=False).sub_topologies[0].stores,
        directory=directory,
        memory=StateMemory(1 << 20),
        timestamp=lambda: 0,
    )
    try:
        position, unfinished = state.position("counts"), state.unfinished("counts")
    finally:
        state.close()
    assert position is not None
    assert position.offset > 1
    left = Killed(log, config, position, unfinished)
    assert (unfinished is not None) == (point == WITHIN_A_WRITE)
    assert (position.offset == left.end - (guarantee == "exactly_once_v2")) == (point == "AFTER_STORES")
    return left


# --- damages: each says whether the state has to be rebuilt, in the words of its warning ----------

Damage = Callable[[Killed], str | None]


def none(left: Killed) -> str | None:
    """A restart as any."""
    return None


def truncated(left: Killed) -> str | None:
    """The log has lost a record that is in the state."""
    _truncate(left, left.position.offset - 1)
    return "it was truncated"


def truncated_and_grown(left: Killed) -> str | None:
    """… and is now longer than it was: offsets say nothing."""
    end = left.end
    _truncate(left, left.position.offset - 1)
    left.grow(end + 5)
    return ""


def truncated_behind_the_position(left: Killed) -> str | None:
    """What the log has lost is in the state only if a write was cut off."""
    _truncate(left, left.position.offset)
    return "it was truncated" if left.unfinished else None


def recreated(left: Killed) -> str | None:
    """The topic is gone; the application makes it again."""
    admin = left.log.supplier.admin({})
    admin.delete_topics([left.changelog])[left.changelog].result(TIMEOUT)
    eventually(lambda: left.changelog not in admin.list_topics(timeout=TIMEOUT).topics)
    return "the topic was deleted and made again"


def recreated_and_grown(left: Killed) -> str | None:
    """The topic was made again, and has as many records as before."""
    end, admin = left.end, left.log.supplier.admin({})
    admin.delete_topics([left.changelog])[left.changelog].result(TIMEOUT)
    topic = NewTopic(left.changelog, 1, 1, config={"cleanup.policy": "compact"})

    def made() -> bool:  # a cluster deletes in the background
        error = admin.create_topics([topic])[left.changelog].exception(TIMEOUT)
        assert error is None or error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS, error
        return error is None

    eventually(made)
    eventually(lambda: left.end == 0)
    left.grow(end)
    return "the topic was deleted and made again"


def begins_behind_the_position(left: Killed) -> str | None:
    """Records that the state has not seen are gone: they were deleted while nobody ran."""
    left.grow(left.position.offset + 3)
    admin = left.log.supplier.admin({})
    before = TopicPartition(left.changelog, 0, left.position.offset + 1)
    _alter(
        left, "cleanup.policy", "compact,delete"
    )  # brokers refuse to delete records of a topic that is compacted only
    eventually(lambda: admin.delete_records([before])[before].exception(TIMEOUT) is None)
    _alter(left, "cleanup.policy", "compact")
    return "records are gone"


def left_alone_for_long(left: Killed) -> str | None:
    """Longer than deletions are kept, so they may be missing: but only if there is anything to be read."""
    left.config["topic.delete.retention.ms"] = 1
    _alter(left, "delete.retention.ms", "1")
    left.grow(left.position.offset + 3)
    return "the state is older than"


def _truncate(left: Killed, offset: int) -> None:
    assert isinstance(left.log.supplier, EmbeddedSupplier)
    Faults(left.log.supplier).truncate(left.changelog, 0, offset)


def _alter(left: Killed, name: str, value: str) -> None:
    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, left.changelog, incremental_configs=[entry])
    admin = left.log.supplier.admin({})
    admin.incremental_alter_configs([resource])[resource].result(TIMEOUT)


DAMAGES: tuple[Damage, ...] = (
    none,
    truncated,
    truncated_and_grown,
    truncated_behind_the_position,
    recreated,
    recreated_and_grown,
    begins_behind_the_position,
    left_alone_for_long,
)


# --- the restart --------------------------------------------------------------------------------


def contents(log: LogUnderTest, topic: str) -> list[Any]:
    """Every record that is in a topic now, of one partition."""
    consumer = log.supplier.consumer(
        {"group.id": log.name("contents"), "isolation.level": "read_committed", "enable.partition.eof": True,
         "enable.auto.commit": False, "fetch.wait.max.ms": 50}
    )  # fmt: skip
    found: list[Any] = []
    try:
        begin, _ = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=TIMEOUT)
        consumer.assign([TopicPartition(topic, 0, begin)])
        ended: list[Any] = []

        def read() -> bool:
            for message in consumer.consume(1_000, 0.1):
                (found if message.error() is None else ended).append(message)
            return bool(ended)

        eventually(read)
        assert [message.error().code() for message in ended] == [KafkaError._PARTITION_EOF]
    finally:
        consumer.close()
    return found


def committed(left: Killed) -> int:
    """The first line that is not committed."""
    consumer = left.log.supplier.consumer({"group.id": left.config["application.id"]})
    try:
        (at,) = consumer.committed([TopicPartition(left.log.name("lines"), 0)], timeout=TIMEOUT)
        return int(at.offset)
    finally:
        consumer.close()


def restart_and_compare(left: Killed, damage: Damage, caplog: pytest.LogCaptureFixture) -> None:
    """Bring the damage about, start again, and compare state and results with what is right."""
    log = left.log
    why = damage(left)
    topics = log.supplier.admin({}).list_topics(timeout=TIMEOUT).topics
    there = last_counts(contents(log, left.changelog)) if left.changelog in topics else {}
    at = committed(left)
    said = len(contents(log, log.name("counts")))
    log.write("lines", [(key, "x") for key in MORE])
    right, results = Counter(there), Counter[tuple[str, int]]()
    for key in [*LINES, *MORE][at:]:
        right[key] += 1
        results[key, right[key]] += 1

    starts = Starts()
    app = KafkaStreams(word_count(log, repartition=False), left.config)
    app.set_global_state_restore_listener(starts)
    with app:
        app.start()
        assert app.wait_until_running(timedelta(seconds=TIMEOUT))
        store = app.store("counts")
        eventually(lambda: dict(store.all()) == right)
        eventually(lambda: last_counts(contents(log, left.changelog)) == right)
        eventually(lambda: len(contents(log, log.name("counts"))) >= said + results.total())
        assert every_count(contents(log, log.name("counts"))[said:]) == results
    warnings = [r.getMessage() for r in caplog.records if "is rebuilt from the beginning of" in r.getMessage()]
    if why is None:
        assert warnings == []
        assert all(start == left.position.offset for start, _ in starts.begun)
    else:
        (warning,) = warnings
        assert why in warning


@pytest.fixture(scope="module", params=POINTS)
def point(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["at_least_once", "exactly_once_v2"])
def once_killed(request: pytest.FixtureRequest, point: str, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """Killed once for all damages, which are done to copies."""
    return killed(embedded_log(tmp_path_factory.mktemp("killed")), request.param, point)


@pytest.mark.xdist_group("damaged_changelogs")
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_after_a_kill(once_killed: Killed, damage: Damage, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.copytree(once_killed.log.directory, tmp_path / "copy")
    log = embedded_log(tmp_path / "copy")
    config = {**once_killed.config, "bootstrap.servers": log.servers, "state.dir": str(log.directory / "state")}
    restart_and_compare(evolve(once_killed, log=log, config=config), damage, caplog)


@pytest.mark.parametrize(
    "damage", [recreated_and_grown, begins_behind_the_position], ids=lambda damage: damage.__name__
)
def test_after_a_kill_on_a_cluster(
    kafka: LogUnderTest, guarantee: str, damage: Damage, caplog: pytest.LogCaptureFixture
) -> None:
    restart_and_compare(killed(kafka, guarantee, "AFTER_STORES"), damage, caplog)
