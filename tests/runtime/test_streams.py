"""Applications on a log: they count, stop, go on, and say what is wrong."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from streamlet import serdes
from streamlet.dsl.builder import StreamsBuilder
from streamlet.errors import (
    ConfigError,
    InvalidStateStoreError,
    InvalidTopicError,
    LockError,
    LogUnreachableError,
    MissingSourceTopicError,
    StartTimeoutError,
    StateMismatchError,
    StreamsError,
    TaskError,
    TopologyError,
)
from streamlet.runtime.lifecycle import State, ThreadState
from streamlet.runtime.start import start, start_async
from streamlet.runtime.streams import KafkaStreams, StreamThreadExceptionResponse
from streamlet.topic import Topic
from streamlet.topology import Topology
from tests.runtime.harness import TIMEOUT, LogUnderTest, Recorder, States, eventually, running, word_count


def test_counts_words(log: LogUnderTest, guarantee: str) -> None:
    log.create("lines", 3)
    log.create("counts", 2)
    log.write("lines", [(None, "to be or not to be")] * 50)
    with running(word_count(log), log.config(guarantee=guarantee)) as app:
        log.await_counts("counts", {"to": 100, "be": 100, "or": 50, "not": 50})
        log.write("lines", [(None, "to sleep")])
        log.await_counts("counts", {"to": 101, "be": 100, "or": 50, "not": 50, "sleep": 1})
        assert app.state is State.RUNNING
    assert app.state is State.NOT_RUNNING


def test_a_partitioner_may_send_a_record_to_several_partitions_or_to_none(log: LogUnderTest) -> None:
    log.create("lines")
    log.create("out", 3)
    chosen = {"all": range(3), "ends": {0, 2}, "middle": 1, "nowhere": ()}
    line = Topic(log.name("lines"), serdes.string, serdes.string)
    builder = StreamsBuilder()
    builder.stream(line).to(
        Topic(log.name("out"), serdes.string, serdes.string),
        partitioner=lambda topic, key, value, count: chosen[key],  # type: ignore[return-value]
    )
    log.write("lines", [(key, "text") for key in chosen])
    with running(builder.build(), log.config()) as app:
        found = log.read("out", lambda messages: len(messages) >= 6)
        eventually(lambda: app.metrics()["dropped-records-total"] == 1)
    places = sorted((message.key().decode(), message.partition()) for message in found)
    assert places == [("all", 0), ("all", 1), ("all", 2), ("ends", 0), ("ends", 2), ("middle", 1)]


def test_a_restart_goes_on_where_it_was(log: LogUnderTest, guarantee: str) -> None:
    log.create("lines", 2)
    log.create("counts")
    for run in range(1, 4):
        sensor = Recorder()
        log.write("lines", [("k", "a b")] * 10)
        with running(word_count(log), log.config(guarantee=guarantee), sensor=sensor):
            log.await_counts("counts", {"a": 10 * run, "b": 10 * run})
        assert sensor.restored == 0, "a clean restart restores nothing"
        assert sensor.processed == 30


def test_lost_local_state_is_restored_from_the_changelog(log: LogUnderTest, guarantee: str) -> None:
    log.create("lines")
    log.create("counts")
    log.write("lines", [(f"k{number % 700}", "x") for number in range(3_000)])
    topology = word_count(log, repartition=False)
    with running(topology, log.config(guarantee=guarantee)) as app:
        log.read("counts", lambda found: len(found) >= 3_000)
    app.clean_up()
    steps: list[tuple[str, int]] = []

    class Listener:
        def on_restore_start(self, topic: str, partition: int, store: str, start: int, end: int) -> None:
            steps.append(("start", start))

        def on_batch_restored(self, topic: str, partition: int, store: str, end: int, restored: int) -> None:
            steps.append(("batch", restored))

        def on_restore_end(self, topic: str, partition: int, store: str, total: int) -> None:
            steps.append(("end", total))

        def on_restore_suspended(self, topic: str, partition: int, store: str, total: int) -> None:
            steps.append(("suspended", total))

    again = KafkaStreams(topology, log.config(guarantee=guarantee))
    again.set_global_state_restore_listener(Listener())
    with again:
        again.start()
        assert again.wait_until_running(timedelta(seconds=TIMEOUT))
        assert steps[0] == ("start", 0)
        assert steps[-1][0] == "end"
        assert steps[-1][1] == sum(n for kind, n in steps if kind == "batch") >= 700
        assert again.store("counts").get("k0") == 5
        assert len(list(again.store("counts").all())) == 700
        log.write("lines", [("k0", "x")])
        log.read("counts", lambda found: len(found) >= 3_001)
        assert again.metrics()["restore-total"] == steps[-1][1]


def test_queries_show_committed_state_from_any_thread(embedded: LogUnderTest) -> None:
    embedded.create("lines", 4)
    embedded.write("lines", [(f"k{n % 20}", "x") for n in range(200)])
    app = KafkaStreams(word_count(embedded, repartition=False), embedded.config())
    with pytest.raises(InvalidStateStoreError, match="CREATED"):
        app.store("counts").get("k1")
    with pytest.raises(InvalidStateStoreError, match="no store 'nope'; the stores are counts"):
        app.store("nope")
    with app:
        app.start()
        embedded.read("counts", lambda found: len(found) >= 200)
        store = app.store("counts")
        assert store.get("k1") == 10
        assert store.get("absent") is None
        assert {key for key, _ in store.all()} == {f"k{n}" for n in range(20)}
        assert [k for k, _ in store.prefix_scan("k1")] == [k for k, _ in store.all() if k.startswith("k1")]
        assert {k for k, _ in store.reverse_range("k1", "k12")} == {"k1", "k10", "k11", "k12"}
        assert store.approximate_num_entries() >= 20
    with pytest.raises(InvalidStateStoreError, match="NOT_RUNNING"):
        store.get("k1")


def test_missing_source_topics_are_named(kafka: LogUnderTest) -> None:
    app = KafkaStreams(word_count(kafka), kafka.config())
    with pytest.raises(MissingSourceTopicError, match=rf"'{kafka.name('lines')}' \(read by KSTREAM-SOURCE-0000000000"):
        app.start()
    assert app.state is State.ERROR
    kafka.create("lines")
    kafka.create("counts")
    with running(word_count(kafka), kafka.config()):
        pass


def test_the_embedded_log_makes_topics_on_first_use(embedded: LogUnderTest) -> None:
    with running(word_count(embedded), embedded.config()):
        embedded.write("lines", [(None, "a")])
        embedded.await_counts("counts", {"a": 1})


def test_another_topology_is_refused_while_the_first_runs(log: LogUnderTest) -> None:
    log.create("lines", 2)
    log.create("counts")
    other = word_count(log, repartition=False)
    with (
        running(word_count(log), log.config()),
        pytest.raises(TopologyError, match="is running with another topology") as refused,
    ):
        start(other, {**log.config(), "state.dir": str(log.directory / "other")})
    assert log.name("app") in str(refused.value)
    with running(other, {**log.config(), "state.dir": str(log.directory / "other")}):
        log.write("lines", [("k", "x")])
        log.await_counts("counts", {"k": 1})


def test_an_internal_topic_of_another_size_is_refused(log: LogUnderTest) -> None:
    log.create("lines", 3)
    log.create("app-counts-changelog", 2, **{"cleanup.policy": "compact"})
    with pytest.raises(InvalidTopicError, match="has 2 partitions, but the topology needs 3"):
        KafkaStreams(word_count(log, repartition=False), log.config()).start()


def test_a_changelog_that_would_lose_data_is_refused(log: LogUnderTest) -> None:
    log.create("lines")
    log.create("app-counts-changelog", 1, **{"cleanup.policy": "delete"})
    with pytest.raises(InvalidTopicError, match=r"cleanup.policy 'delete', but the topology needs 'compact'"):
        KafkaStreams(word_count(log, repartition=False), log.config()).start()


def test_state_of_another_log_is_refused(embedded: LogUnderTest, tmp_path: object) -> None:
    with running(word_count(embedded), embedded.config()):
        pass
    config = {**embedded.config(), "bootstrap.servers": f"embedded:{embedded.directory / 'other.db'}"}
    with pytest.raises(StateMismatchError, match=r"belongs to (the )?log"):
        KafkaStreams(word_count(embedded), config).start()


def test_after_clean_up_another_log_may_be_used(embedded: LogUnderTest) -> None:
    with running(word_count(embedded), embedded.config()):
        pass
    config = {**embedded.config(), "bootstrap.servers": f"embedded:{embedded.directory / 'other.db'}"}
    app = KafkaStreams(word_count(embedded), config)
    app.clean_up()
    app.start()
    assert app.wait_until_running(timedelta(seconds=TIMEOUT))
    app.close()


def test_one_instance_per_state_directory(embedded: LogUnderTest) -> None:
    with running(word_count(embedded), embedded.config()), pytest.raises(LockError, match="in use by this process"):
        KafkaStreams(word_count(embedded), embedded.config()).start()


def test_state_lies_beside_an_embedded_file(embedded: LogUnderTest) -> None:
    config = embedded.config()
    del config["state.dir"]
    with running(word_count(embedded), config):
        assert (embedded.directory / "log.db.state" / "app").is_dir()


def test_an_empty_topology_is_refused() -> None:
    with pytest.raises(TopologyError, match="empty"):
        KafkaStreams(Topology(), {"application.id": "a", "bootstrap.servers": "embedded:"})
    with pytest.raises(TopologyError, match="a Topology is needed"):
        KafkaStreams(StreamsBuilder(), {"application.id": "a", "bootstrap.servers": "embedded:"})  # type: ignore[arg-type]


def test_states_in_order_and_listeners_only_before_start(log: LogUnderTest) -> None:
    log.create("lines")
    log.create("counts")
    states = States()
    app = KafkaStreams(word_count(log), log.config())
    app.set_state_listener(states)
    with app:
        app.start()
        assert app.wait_until_running(timedelta(seconds=TIMEOUT))
        (thread,) = app.metadata_for_local_threads()
        assert thread.thread_state is ThreadState.RUNNING
        assert [str(task) for task in thread.active_tasks] == ["0_0", "1_0"]
        for late in (app.set_state_listener, app.set_uncaught_exception_handler, app.set_global_state_restore_listener):
            with pytest.raises(StreamsError, match="must be called before start"):
                late(lambda *_: None)  # type: ignore[operator]
        with pytest.raises(StreamsError, match="can be started once"):
            app.start()
        with pytest.raises(StreamsError, match="clean_up must be called"):
            app.clean_up()
    assert states.seen == [State.REBALANCING, State.RUNNING, State.PENDING_SHUTDOWN, State.NOT_RUNNING]
    assert app.close()


def test_pause_and_resume(log: LogUnderTest, guarantee: str) -> None:
    log.create("lines")
    log.create("counts")
    sensor = Recorder()
    with running(word_count(log, repartition=False), log.config(guarantee=guarantee), sensor=sensor) as app:
        log.write("lines", [("k", "x")])
        log.await_counts("counts", {"k": 1})
        app.pause()
        assert app.is_paused
        log.write("lines", [("k", "x")] * 5)
        with pytest.raises(AssertionError):
            sensor.wait_for(lambda s: s.processed > 1, timeout=0.5)
        app.resume()
        log.await_counts("counts", {"k": 6})


def _failing(log: LogUnderTest, fail: threading.Event) -> Topology:
    builder = StreamsBuilder()

    def check(value: str) -> str:
        if value == "bad" and fail.is_set():
            raise ValueError("no good")
        return value

    lines = Topic(log.name("lines"), serdes.string, serdes.string)
    builder.stream(lines).map_values(check).to(Topic(log.name("out"), serdes.string, serdes.string))
    return builder.build()


def test_an_uncaught_exception_ends_the_instance_and_wait_raises_it(log: LogUnderTest, guarantee: str) -> None:
    log.create("lines")
    log.create("out")
    fail = threading.Event()
    fail.set()
    app = running(_failing(log, fail), log.config(guarantee=guarantee))
    log.write("lines", [("k", "good"), ("k", "bad")])
    with pytest.raises(TaskError, match=f"KSTREAM-MAPVALUES-0000000001.*{log.name('lines')}, partition 0, offset 1"):
        app.wait(timedelta(seconds=TIMEOUT))
    assert app.state is State.ERROR


def test_a_thread_is_replaced(log: LogUnderTest, guarantee: str) -> None:
    log.create("lines")
    log.create("out")
    fail = threading.Event()
    fail.set()
    errors: list[BaseException] = []

    def replace(error: BaseException) -> StreamThreadExceptionResponse:
        errors.append(error)
        fail.clear()
        return StreamThreadExceptionResponse.REPLACE_THREAD

    app = KafkaStreams(_failing(log, fail), log.config(guarantee=guarantee))
    app.set_uncaught_exception_handler(replace)
    with app:
        app.start()
        log.write("lines", [("k", "good"), ("k", "bad"), ("k", "better")])
        found = log.read("out", lambda found: len(found) >= 3 and found[-1].value() == b"better")
        if guarantee == "exactly_once_v2":
            assert [m.value() for m in found] == [b"good", b"bad", b"better"]
        assert len(errors) == 1
        assert app.wait_until_running(timedelta(seconds=TIMEOUT))


def test_one_thread_shuts_the_whole_application_down(log: LogUnderTest) -> None:
    log.create("lines", 2)
    log.create("out")
    fail = threading.Event()
    fail.set()
    apps = []
    for number in range(2):
        app = KafkaStreams(_failing(log, fail), {**log.config(), "state.dir": str(log.directory / f"state{number}")})
        app.set_uncaught_exception_handler(lambda _: StreamThreadExceptionResponse.SHUTDOWN_APPLICATION)
        apps.append(app)
        app.start()
    try:
        for app in apps:
            assert app.wait_until_running(timedelta(seconds=TIMEOUT))
        log.write("lines", [("k", "bad")])
        outcomes: list[str] = []
        for app in apps:
            with pytest.raises(StreamsError) as ended:
                app.wait(timedelta(seconds=TIMEOUT))
            outcomes.append("task" if isinstance(ended.value, TaskError) else str(ended.value))
        assert sum(outcome == "task" for outcome in outcomes) >= 1
        assert all(outcome == "task" or "asked all to shut down" in outcome for outcome in outcomes)
    finally:
        for app in apps:
            app.close()
    fail.clear()
    with running(_failing(log, fail), log.config()):
        log.read("out", lambda found: len(found) >= 1)


def test_two_threads_share_the_tasks(log: LogUnderTest, guarantee: str) -> None:
    log.create("lines", 4)
    log.create("counts", 4)
    with running(word_count(log), log.config(guarantee=guarantee, num_stream_threads=2)) as app:
        eventually(lambda: sorted(len(t.active_tasks) for t in app.metadata_for_local_threads()) == [4, 4])
        log.write("lines", [(f"{n}", f"w{n % 9}") for n in range(900)])
        log.await_counts("counts", {f"w{n}": 100 for n in range(9)})


def test_close_from_a_listener_and_from_a_stream_thread_does_not_block(embedded: LogUnderTest) -> None:
    holder: list[KafkaStreams] = []
    builder = StreamsBuilder()
    builder.stream(Topic("lines", serdes.string, serdes.string)).foreach(lambda _k, _v: holder[0].close())
    app = KafkaStreams(builder.build(), embedded.config())
    holder.append(app)
    app.start()
    embedded.write("lines", [("k", "stop")])
    assert app.wait(timedelta(seconds=TIMEOUT))
    assert app.state is State.NOT_RUNNING


def test_start_says_what_it_waited_for(embedded: LogUnderTest) -> None:
    release = threading.Event()

    class Held(Recorder):
        def on_task_created(self, task: str) -> None:
            release.wait(TIMEOUT)

    timer = threading.Timer(0.5, release.set)
    timer.start()
    with pytest.raises(StartTimeoutError, match=r"did not run within 0.1 s: .*StreamThread-1 is PARTITIONS_ASSIGNED"):
        start(word_count(embedded), embedded.config(), timeout=timedelta(seconds=0.1), sensor=Held())
    timer.join()


def test_start_async(embedded: LogUnderTest) -> None:
    async def main() -> None:
        async with start_async(word_count(embedded), embedded.config()) as app:
            assert app.state is State.RUNNING
            embedded.write("lines", [(None, "a")])
            await asyncio.to_thread(embedded.await_counts, "counts", {"a": 1})
        assert app.state is State.NOT_RUNNING
        app = await start_async(word_count(embedded), embedded.config())
        assert app.state is State.RUNNING
        await asyncio.to_thread(app.close)

    asyncio.run(main())


def test_an_address_where_nobody_answers_is_named_within_the_time_allowed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    builder = StreamsBuilder()
    builder.stream(Topic("a", serdes.string, serdes.string)).to(Topic("b", serdes.string, serdes.string))
    config = {"application.id": "alone", "bootstrap.servers": "127.0.0.1:1", "state.dir": str(tmp_path)}
    with pytest.raises(LogUnreachableError, match=r"no broker answers at 127\.0\.0\.1:1 within 0\.5 s"):
        start(builder.build(), config, timeout=timedelta(seconds=0.5))
    assert capfd.readouterr().err == ""


def test_an_optimisation_that_was_not_made_is_noticed(embedded: LogUnderTest) -> None:
    builder = StreamsBuilder()
    builder.stream(Topic("a", serdes.string, serdes.string)).to(Topic("b", serdes.string, serdes.string))
    config = {**embedded.config(), "topology.optimization": "all"}
    with pytest.raises(ConfigError, match=r"give the configuration to builder\.build\(config\) as well"):
        KafkaStreams(builder.build(), config)
    KafkaStreams(builder.build(config), config)
