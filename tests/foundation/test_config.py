"""The configuration: what is refused, and what the refusal says."""

from __future__ import annotations

from typing import Any

import pytest

from streamlet.config import ProcessingGuarantee, StreamsConfig
from streamlet.errors import ConfigError

MINIMUM = {"application.id": "app", "bootstrap.servers": "localhost:9092"}


def test_defaults_are_kafka_streams() -> None:
    config = StreamsConfig.parse(MINIMUM)
    assert config.processing_guarantee is ProcessingGuarantee.AT_LEAST_ONCE
    assert config.commit_interval_ms == 30_000
    assert config.num_stream_threads == 1
    assert not config.embedded


def test_exactly_once_commits_more_often() -> None:
    assert StreamsConfig.parse({**MINIMUM, "processing.guarantee": "exactly_once_v2"}).commit_interval_ms == 100
    given = {**MINIMUM, "processing.guarantee": "exactly_once_v2", "commit.interval.ms": 5}
    assert StreamsConfig.parse(given).commit_interval_ms == 5


def test_brokers_is_an_alias() -> None:
    assert StreamsConfig.parse({"application.id": "a", "brokers": "embedded:x.db"}).embedded


def test_prefixes_pass_through() -> None:
    config = StreamsConfig.parse(
        {
            **MINIMUM,
            "consumer.fetch.min.bytes": 1,
            "main.consumer.fetch.min.bytes": 2,
            "producer.linger.ms": 3,
            "topic.retention.ms": 4,
            "security.protocol": "SSL",
        }
    )
    assert config.client("consumer", "main.consumer") == {"fetch.min.bytes": 2, "security.protocol": "SSL"}
    assert config.client("producer") == {"linger.ms": 3, "security.protocol": "SSL"}
    assert config.topic_configs == {"retention.ms": "4"}


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"num.stream.thread": 2}, "num.stream.thread is unknown: did you mean num.stream.threads"),
        ({"commit.interval.ms": "soon"}, "commit.interval.ms must be a whole number, not 'soon'"),
        ({"commit.interval.ms": -1}, "commit.interval.ms must be between 0"),
        ({"commit.interval.ms": True}, "commit.interval.ms must be a whole number"),
        ({"processing.guarantee": "exactly_once"}, "write 'exactly_once_v2'"),
        ({"processing.guarantee": "maybe"}, "must be 'at_least_once' or 'exactly_once_v2'"),
        ({"rocksdb.config.setter": object}, "rocksdb.config.setter is not supported: .*state.memory.max.bytes"),
        ({"default.key.serde": "x"}, r"default.key.serde is not supported: .*default_key_serde"),
        ({"consumer.enable.auto.commit": True}, "consumer.enable.auto.commit cannot be set"),
        ({"producer.transactional.id": "x"}, "producer.transactional.id cannot be set"),
        ({"producer.acks": 1}, "producer.acks cannot be set"),
        ({"brokers": "b:1"}, "another name of 'bootstrap.servers'"),
        (
            {"topology.optimization": "merge.topics"},
            "'merge.topics' is not supported; it is 'none'",
        ),
        ({"topology.optimization": 3}, "topology.optimization must be a string"),
        ({"no.such.thing.at.all": 1}, "no.such.thing.at.all is unknown: the keys are"),
        ({"processing.exception.handler": 3}, "processing.exception.handler must be a function"),
        ({"application.id": "a b"}, "application.id 'a b' may hold"),
        ({"errors.dead.letter.queue.topic.name": "a b"}, "'a b' is no topic's name"),
        ({3: 4}, "keys are strings"),
    ],
)
def test_refusals_name_the_key_and_the_way_out(extra: dict[Any, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        StreamsConfig.parse({**MINIMUM, **extra})


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        StreamsConfig.parse({"commit.interval.ms": "x", "nonsense": 1})
    for part in ("commit.interval.ms", "nonsense", "application.id is missing", "bootstrap.servers is missing"):
        assert part in str(caught.value)


def test_secrets_stay_out_of_the_representation() -> None:
    config = StreamsConfig.parse({**MINIMUM, "sasl.password": "hunter2", "consumer.sasl.password": "hunter2"})
    assert "hunter2" not in repr(config)
