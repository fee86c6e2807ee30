"""The builder, and what start, stop and running do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from spigot_topologies import create_wf_msg, default_builder, get, running, start, stop, topic_cfg
from streamlet import ConfigError, StreamsBuilder, Topic, TopologyError, serdes, supplier_for

WORKFLOWS, TASKS, EVENTS = topic_cfg("workflow-topic"), topic_cfg("task-topic"), topic_cfg("event-topic")


class Handler:
    def on_create(self, ctx: Any, workflow: Any) -> Any:
        return ["created", ctx]

    def on_update(self, ctx: Any, workflow: Any) -> Any:
        return ["updated", ctx]

    def on_complete(self, ctx: Any, workflow: Any) -> Any:
        return ["completed", ctx]

    def on_error(self, ctx: Any, error: BaseException, workflow: Any) -> Any:
        return ["error", ctx]

    def process_task(self, ctx: Any, task: list[Any]) -> Any:
        return {"tag": task[0]}


def manager(**options: Any) -> Any:
    given = {"handler": Handler(), "task_topic_cfg": TASKS, "workflow_topic_cfg": WORKFLOWS, "event_topic_cfg": EVENTS}
    return default_builder().with_wf_topology(**{**given, **options})


def worker(**options: Any) -> Any:
    given = {"handler": Handler(), "task_topic_cfg": TASKS, "workflow_topic_cfg": WORKFLOWS}
    return default_builder().with_task_topology(**{**given, **options})


def test_the_readmes_example(tmp_path: Path) -> None:
    brokers = f"embedded:{tmp_path}/log.db"
    workflows = start(manager().build(), {"application.id": "wf-application-id", "brokers": brokers})
    workers = start(worker().build(), {"application.id": "task-application-id", "brokers": brokers})
    assert running(workflows)
    assert running(workers)
    plan = ["spigot/serial", ["task-1", {"spigot/in": {"input": get("?initial")}}], ["task-2"]]
    message = create_wf_msg({"workflows/form": plan, "workflows/ctx": {"?initial": "ctx"}}, {"workflow/id": "w1"})
    supplier = supplier_for(brokers)
    consumer = supplier.consumer({"group.id": "test"})
    consumer.subscribe(["event-topic"])
    producer = supplier.producer({})
    producer.produce(
        WORKFLOWS.name, key=WORKFLOWS.key_serde.serialize("w1"), value=WORKFLOWS.value_serde.serialize(message)
    )
    assert producer.flush(30) == 0
    events: list[Any] = []
    while len(events) < 3:
        events += [EVENTS.value_serde.deserialize(event.value() or b"") for event in consumer.consume(10, 1.0)]
    consumer.close()
    assert events == [[name, {"workflow/id": "w1"}] for name in ("created", "updated", "completed")]
    assert stop(workflows)
    assert stop(workers)
    assert not running(workflows)
    assert not running(workers)
    assert stop(workflows)


def test_a_manager_does_not_start_with_at_least_once() -> None:
    config = {"application.id": "a", "brokers": "embedded:", "processing.guarantee": "at_least_once"}
    for topology in (manager().build(), both().build()):
        with pytest.raises(ConfigError, match=r"exactly_once_v2.*half written"):
            start(topology, config)


def both() -> Any:
    return manager().with_task_topology(handler=Handler(), task_topic_cfg=TASKS, workflow_topic_cfg=WORKFLOWS)


def test_a_worker_runs_with_either_guarantee_and_exactly_once_is_the_default(tmp_path: Path) -> None:
    for given in ({}, {"processing.guarantee": "at_least_once"}, {"processing.guarantee": "exactly_once_v2"}):
        brokers = f"embedded:{tmp_path}/{len(given)}.db"
        for topic in (WORKFLOWS, TASKS):
            supplier_for(brokers).admin({}).list_topics(topic.name)
        with start(worker().build(), {"application.id": "w", "brokers": brokers, **given}) as app:
            assert app.config.exactly_once == (given.get("processing.guarantee") != "at_least_once")


def test_start_says_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match=r"bootstrap\.servers is missing"):
        start(manager().build(), {"application.id": "a"})
    with pytest.raises(ConfigError, match=r"did you mean application\.id"):
        start(manager().build(), {"aplication.id": "a", "brokers": "embedded:"})
    with pytest.raises(ConfigError, match="mapping"):
        start(manager().build(), None)  # type: ignore[arg-type]  # what it says


def test_builders_are_values() -> None:
    empty = default_builder()
    one = manager()
    assert len(one.build().sub_topologies) == 1
    assert len(both().build().sub_topologies) == 2
    with pytest.raises(TopologyError, match="empty"):
        empty.build()
    with pytest.raises(TopologyError, match="already"):
        one.with_wf_topology(task_topic_cfg=TASKS, workflow_topic_cfg=WORKFLOWS)
    with pytest.raises(TopologyError, match="already"):
        both().with_task_topology(handler=Handler(), task_topic_cfg=TASKS, workflow_topic_cfg=WORKFLOWS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task_topic_cfg": "tasks"}, "made with topic_cfg"),
        ({"task_topic_cfg": Topic("t", serdes.string, serdes.string)}, "made with topic_cfg"),
        ({"task_topic_cfg": WORKFLOWS}, "same topic"),
        ({"dead_letter_topic": "task-topic"}, "same topic"),
        ({"retention": timedelta(-1)}, "retention"),
        ({"retention": 7}, "retention must be a timedelta"),
        ({"handler": dict}, "is a class: give it an object of it"),
        ({"max_starts": 0}, "max_starts"),
        ({"handler": object()}, "no workflow handler"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        manager(**options)


def test_topics_of_the_two_codecs() -> None:
    for codec, key in (("json", b'"w"'), ("edn", b'"w"')):
        topic = topic_cfg("t", codec)
        assert isinstance(topic, Topic)
        assert topic.key_serde.serialize("w") == key
        message = create_wf_msg({"workflows/form": ["t"]}, {"a": 1})
        assert topic.value_serde.deserialize(topic.value_serde.serialize(message)).plan == ["t"]
    with pytest.raises(ValueError, match="no codec 'xml'"):
        topic_cfg("t", "xml")
    with pytest.raises(TopologyError, match="not a legal name"):
        topic_cfg("no spaces")


def test_another_topology_is_none_of_its_business(tmp_path: Path) -> None:
    builder = StreamsBuilder()
    lines = Topic("lines", serdes.string, serdes.string)
    builder.stream(lines).to(Topic("out", serdes.string, serdes.string))
    config = {"application.id": "a", "brokers": f"embedded:{tmp_path}/l.db", "processing.guarantee": "at_least_once"}
    supplier_for(config["brokers"]).admin({}).list_topics("lines")
    with start(builder.build(), config) as app:
        assert running(app)
