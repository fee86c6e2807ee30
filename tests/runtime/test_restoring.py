"""Restoring holds up nobody else."""

from __future__ import annotations

from datetime import timedelta

from streamlet import serdes
from streamlet.dsl.builder import StreamsBuilder
from streamlet.runtime.streams import KafkaStreams
from streamlet.topic import Topic
from tests.runtime.harness import NOW, TIMEOUT, LogUnderTest, eventually, running

KEYS = 30_000


def test_a_task_processes_records_while_another_one_of_its_thread_is_restored(embedded: LogUnderTest) -> None:
    """A record comes for the first task once the restore of the second has begun, and is there long before its end."""
    embedded.create("lines", 2)
    steps: list[str] = []

    def seen(line: str) -> str:
        steps.append(line)
        return line

    builder = StreamsBuilder()
    lines = builder.stream(Topic("lines", serdes.string, serdes.string)).map_values(seen)
    lines.group_by_key(key_serde=serdes.string, value_serde=serdes.string).count(store="counts")
    topology = builder.build()
    embedded.write("lines", [(f"k{number}", "before") for number in range(KEYS)], partition=1)
    with running(topology, embedded.config()) as app:
        store = app.store("counts")
        embedded.write("lines", [("end", "end")], partition=1)
        eventually(lambda: store.get("end") is not None)
    app.clean_up()

    class Listener:
        def on_restore_start(self, topic: str, partition: int, store: str, start: int, end: int) -> None: ...

        def on_batch_restored(self, topic: str, partition: int, store: str, end: int, restored: int) -> None:
            if "batch" not in steps:
                embedded.write("lines", [("other", "beside it")], timestamp=NOW, partition=0)
            steps.append("batch")

        def on_restore_end(self, topic: str, partition: int, store: str, total: int) -> None:
            steps.append("end of restore")

        def on_restore_suspended(self, topic: str, partition: int, store: str, total: int) -> None: ...

    steps.clear()
    again = KafkaStreams(topology, embedded.config())
    again.set_global_state_restore_listener(Listener())
    with again:
        again.start()
        assert again.wait_until_running(timedelta(seconds=TIMEOUT))
    assert steps.count("end of restore") == 1
    assert steps.count("beside it") == 1
    assert steps.index("beside it") < steps.index("end of restore")
    assert steps[steps.index("beside it") :].count("batch") > 1, "it waited for most of the restore"
