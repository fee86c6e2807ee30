"""When commits happen, who may make them, and what they leave behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from streamlet import StreamsBuilder, Topic, serdes
from streamlet.runtime import thread as thread_module
from tests.runtime.harness import LogUnderTest, Recorder, eventually, running, word_count


def test_drained_input_is_committed_long_before_the_interval(log: LogUnderTest, guarantee: str) -> None:
    """A chain of three sub-topologies, an interval of a day: waiting for it at one hop would time out."""
    log.create("in")
    log.create("out")
    builder = StreamsBuilder()
    stream = builder.stream(Topic(log.name("in"), serdes.string, serdes.string))
    for hop in ("one", "two"):
        stream = stream.map(lambda k, v: (v, k)).repartition(
            name=hop, key_serde=serdes.string, value_serde=serdes.string
        )
    stream.to(Topic(log.name("out"), serdes.string, serdes.string))
    sensor = Recorder()
    config = {**log.config(guarantee=guarantee), "commit.interval.ms": 86_400_000}
    with running(builder.build(), config, sensor=sensor):
        for n in range(5):
            log.write("in", [(f"k{n}", f"v{n}")])
            log.read("out", lambda found, n=n: len(found) == n + 1)  # type: ignore[misc]  # default binds n
        eventually(lambda: len(sensor.commits) >= 3)


def test_processed_records_of_repartition_topics_are_deleted(log: LogUnderTest, guarantee: str) -> None:
    log.create("lines")
    log.create("counts")
    topic = log.name("app-counts-repartition")
    config = {**log.config(guarantee=guarantee), "repartition.purge.interval.ms": 0}
    with running(word_count(log), config) as app:
        log.write("lines", [(None, "a b c")] * 20)
        log.await_counts("counts", {"a": 20, "b": 20, "c": 20})
        admin = app._preparation._admin  # type: ignore[union-attr]  # the test looks where users cannot
        eventually(lambda: admin.offsets([(topic, 0)], end=False)[topic, 0] >= 60)


def test_a_fenced_producer_is_replaced(log: LogUnderTest) -> None:
    """Somebody else takes the transactional id: the thread makes a new producer, and results stay exact."""
    log.create("lines")
    log.create("counts")
    sensor = Recorder()
    with running(word_count(log, repartition=False), log.config(), sensor=sensor) as app:
        log.write("lines", [("k", "x")] * 10)
        log.await_counts("counts", {"k": 10})
        process_id = app._directory.process_id  # type: ignore[union-attr]  # the test looks where users cannot
        thief = log.supplier.producer({"transactional.id": f"{log.name('app')}-{process_id}-1"})
        thief.init_transactions(30)
        log.write("lines", [("k", "x")] * 10)
        found = log.read("counts", lambda found: len(found) >= 20)
        assert [int.from_bytes(m.value(), "big") for m in found] == list(range(1, 21))
        assert sensor.aborts


def test_offsets_and_positions_are_committed_again_while_idle(
    log: LogUnderTest, guarantee: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_module, "_REFRESH_SECONDS", 0.2)
    log.create("lines")
    log.create("counts")
    sensor = Recorder()
    with running(word_count(log, repartition=False), log.config(guarantee=guarantee), sensor=sensor) as app:
        log.write("lines", [("k", "x")])
        log.await_counts("counts", {"k": 1})
        (task,) = app._threads[1].tasks
        eventually(lambda: task.state.position("counts") is not None)
        before = task.state.position("counts")
        commits = len(sensor.commits)
        sensor.wait_for(lambda s: len(s.commits) >= commits + 2)
        after = task.state.position("counts")
        assert before is not None
        assert after is not None
        assert after.committed_at > before.committed_at
        assert after.offset == before.offset


SCRIPT = """
from streamlet import StreamsBuilder, Topic, serdes, start
builder = StreamsBuilder()
builder.stream(Topic("in", serdes.string, serdes.string)).to(Topic("out", serdes.string, serdes.string))
app = start(builder.build(), {"application.id": "a", "bootstrap.servers": "embedded:"})
print(app.state.value)
"""


def test_a_program_that_forgets_to_close_ends_nevertheless(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=60,
        env={"PATH": "", "HOME": str(tmp_path)}, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "RUNNING"), done.stderr


def test_a_changelog_that_was_deleted_and_made_again_is_not_trusted(log: LogUnderTest, guarantee: str) -> None:
    """Local state belongs to a topic that is gone: it is rebuilt from the new one, which is empty."""
    log.create("lines")
    log.create("counts")
    topology = word_count(log, repartition=False)
    with running(topology, log.config(guarantee=guarantee)):
        log.write("lines", [("k", "x")] * 3)
        log.await_counts("counts", {"k": 3})
    changelog = log.name("app-counts-changelog")
    admin = log.supplier.admin({})
    admin.delete_topics([changelog])[changelog].result(30)
    eventually(lambda: changelog not in admin.list_topics(timeout=10).topics)
    with running(topology, log.config(guarantee=guarantee)) as app:
        assert dict(app.store("counts").all()) == {}
        log.write("lines", [("k", "x")])
        log.read("counts", lambda found: len(found) >= 4 and int.from_bytes(found[-1].value(), "big") == 1)
