"""Every recorded message of the original is read, means what was recorded, and is written again."""

from __future__ import annotations

import pytest

from spigot_topologies.wire import EDN, JSON, Create, Result, TaskMessage, decode_command, decode_task, edn, serdes
from tests.spigot.wire.samples import Sample, load_samples, same

SAMPLES = load_samples()
COMMANDS = [sample for sample in SAMPLES if sample.topic == "workflow-topic"]
TASKS = [sample for sample in SAMPLES if sample.topic == "task-topic"]


def name(sample: Sample) -> str:
    return sample.name


def test_there_are_34() -> None:
    assert len(SAMPLES) == 34


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_read_as_recorded(sample: Sample) -> None:
    assert same(edn.loads(sample.text), sample.value)
    assert same(edn.loads(sample.key_text), sample.key)


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_written_to_an_equal_value(sample: Sample) -> None:
    assert same(edn.loads(edn.dumps(sample.value)), sample.value)
    assert edn.dumps(sample.key).decode() == sample.key_text


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_written_to_the_same_text(sample: Sample) -> None:
    text = edn.dumps(edn.loads(sample.text)).decode()
    if "print-namespace-maps" in sample.name:
        assert "#:" in sample.text  # a setting of Clojure's REPL; the original's programs print without it
    elif "#{" in sample.text:
        assert sorted(text) == sorted(sample.text)  # a set has no order
    else:
        assert text == sample.text


@pytest.mark.parametrize("sample", COMMANDS, ids=name)
def test_commands(sample: Sample) -> None:
    message = decode_command(sample.text.encode(), EDN)
    assert isinstance(message, Create | Result)
    named, *arguments = sample.value
    if isinstance(message, Create):
        assert named == "spigot.controllers.kafka.topologies/create!"
        assert [message.params, message.ctx] == arguments
        assert message.plan == arguments[0]["workflows/form"]
        assert message.scope == arguments[0]["workflows/ctx"]
    else:
        assert named == "spigot.controllers.kafka.topologies/result"
        assert message.task_id == arguments[0]["spigot/id"]
        assert same(message.result, arguments[0]["spigot/result"])
    if "print-namespace-maps" not in sample.name:
        assert EDN.write_message(message).decode() == sample.text


@pytest.mark.parametrize("sample", TASKS, ids=name)
def test_tasks(sample: Sample) -> None:
    message = decode_task(sample.text.encode(), EDN)
    if "workflow-id" not in sample.value:
        assert getattr(message, "reason", None) == "unknown-message"  # nobody could be told the result
        return
    assert isinstance(message, TaskMessage)
    assert message.task_id == sample.key
    assert message.task == sample.value["task"]
    assert message.ctx == sample.value["ctx"]
    assert message.workflow_id == sample.value["workflow-id"]
    written = edn.loads(EDN.write_message(message))
    assert [*written] == ["ctx", "task", "workflow", "workflow-id"]
    assert same(written["task"], sample.value["task"])
    assert set(written["workflow"]) <= set(sample.value["workflow"])
    assert written["workflow"]["running"] == {sample.key}


@pytest.mark.parametrize("sample", SAMPLES, ids=name)
def test_through_json(sample: Sample) -> None:
    if sample.name == "values":
        return  # it holds NaN, which JSON has not
    assert same(JSON.read(JSON.write(sample.value)), sample.value)


@pytest.mark.parametrize("codec", ["edn", "json"])
@pytest.mark.parametrize("sample", COMMANDS + TASKS, ids=name)
def test_serdes(sample: Sample, codec: str) -> None:
    if sample.name == "values":
        return
    message = serdes("edn").value.deserialize(sample.text.encode())
    made = serdes(codec)
    assert made.value.deserialize(made.value.serialize(message)) == message
    assert same(made.key.deserialize(made.key.serialize(sample.key)), sample.key)
