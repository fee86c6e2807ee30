"""The original's own recorded messages, to the manager and to the worker; and a Clojure worker's way of answering."""

from __future__ import annotations

from typing import Any

import pytest

from spigot_topologies.wire import Create, decode_command
from tests.spigot.topologies.harness import TASKS, WORKFLOWS, Bench, Recorder, worker_bench
from tests.spigot.wire.samples import Sample, load_samples

SAMPLES = load_samples()
COMMANDS = [sample for sample in SAMPLES if sample.topic == "workflow-topic"]
TASK_MESSAGES = [sample for sample in SAMPLES if sample.topic == "task-topic"]


@pytest.mark.parametrize("sample", COMMANDS, ids=[sample.name for sample in COMMANDS])
def test_the_manager_reads_every_recorded_command(sample: Sample) -> None:
    handler = Recorder()
    with Bench(codec="edn", handler=handler) as bench:
        bench.pipe(sample.key_text.encode(), sample.text.encode())
        if isinstance(decode_command(sample.text.encode(), bench.codec), Create):
            assert bench.rejections() == []
            assert len(handler.calls) == 1
            for record in bench.records(TASKS):
                assert b":task [:" in record.value
        else:
            assert bench.rejections() == ["unknown-workflow"]


@pytest.mark.parametrize("sample", TASK_MESSAGES, ids=[sample.name for sample in TASK_MESSAGES])
def test_the_worker_reads_every_recorded_task(sample: Sample) -> None:
    class Handler:
        def process_task(self, ctx: Any, task: list[Any]) -> Any:
            return {"ctx": ctx, "task": task}

    with worker_bench(Handler(), codec="edn") as bench:
        bench.pipe(sample.key_text.encode(), sample.text.encode(), TASKS)
        if "workflow-id" not in sample.value:
            assert bench.rejections() == ["unknown-message"]  # nobody could be told the result
            return
        assert bench.rejections() == []
        (record,) = bench.records(WORKFLOWS)
        assert record.value.startswith(b"[:spigot.controllers.kafka.topologies/result {")


def test_a_clojure_workers_answer_carries_the_tasks_headers() -> None:
    """Kafka Streams copies them: they name the task's key, not the workflow's, and are not trusted."""
    with Bench(codec="edn", handler=Recorder()) as bench:
        bench.create("w", ["t"])
        (task,) = bench.tasks()
        text = f'[:spigot.controllers.kafka.topologies/result #:spigot{{:id #uuid "{task.id}", :result {{:a 1}}}}]'
        bench.pipe(bench.key("w"), text.encode(), headers=task.headers)
        assert bench.rejections() == []
        assert [event.status for event in bench.events()] == ["running", "success"]
