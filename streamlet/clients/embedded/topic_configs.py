"""The topic configurations that the embedded log knows: Kafka's names, types and defaults.

All of Kafka's topic configurations are accepted and kept, so that an application may create its topics here as on a
cluster. Those in `EFFECTIVE` change what the log does; the others concern brokers, replicas or files that it has not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from confluent_kafka import KafkaError, KafkaException

DAY_MS: Final = 86_400_000

DEFAULTS: Final[Mapping[str, str]] = {
    "cleanup.policy": "delete",
    "compression.type": "producer",
    "delete.retention.ms": str(DAY_MS),
    "file.delete.delay.ms": "60000",
    "flush.messages": str(2**63 - 1),
    "flush.ms": str(2**63 - 1),
    "follower.replication.throttled.replicas": "",
    "index.interval.bytes": "4096",
    "leader.replication.throttled.replicas": "",
    "local.retention.bytes": "-2",
    "local.retention.ms": "-2",
    "max.compaction.lag.ms": str(2**63 - 1),
    "max.message.bytes": "1048588",
    "message.timestamp.after.max.ms": "3600000",
    "message.timestamp.before.max.ms": str(2**63 - 1),
    "message.timestamp.type": "CreateTime",
    "min.cleanable.dirty.ratio": "0.5",
    "min.compaction.lag.ms": "0",
    "min.insync.replicas": "1",
    "preallocate": "false",
    "remote.storage.enable": "false",
    "retention.bytes": "-1",
    "retention.ms": str(7 * DAY_MS),
    "segment.bytes": "1073741824",
    "segment.index.bytes": "10485760",
    "segment.jitter.ms": "0",
    "segment.ms": str(7 * DAY_MS),
    "unclean.leader.election.enable": "false",
}

EFFECTIVE: Final = frozenset(
    {
        "cleanup.policy",
        "delete.retention.ms",
        "max.message.bytes",
        "message.timestamp.type",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "retention.bytes",
        "retention.ms",
    }
)

_TEXT: Final[Mapping[str, frozenset[str]]] = {
    "cleanup.policy": frozenset({"delete", "compact", "compact,delete", "delete,compact"}),
    "message.timestamp.type": frozenset({"CreateTime", "LogAppendTime"}),
}


def checked(topic: str, config: Mapping[str, str]) -> dict[str, str]:
    """The configuration of a new topic, as given.

    Raises:
        KafkaException: INVALID_CONFIG: a name Kafka does not know, or a value of another type.
    """
    result: dict[str, str] = {}
    for name, given in config.items():
        value = str(given).strip()
        default = DEFAULTS.get(name)
        if default is None:
            raise _invalid(f"topic {topic}: unknown configuration {name!r}")
        allowed = _TEXT.get(name)
        if allowed is not None:
            value = value.replace(" ", "")
            if value not in allowed:
                raise _invalid(f"topic {topic}: {name} must be one of {', '.join(sorted(allowed))}, not {value!r}")
        elif default in ("true", "false"):
            if value not in ("true", "false"):
                raise _invalid(f"topic {topic}: {name} must be true or false, not {value!r}")
        elif default:
            _check_number(topic, name, value)
        result[name] = value
    return result


def number(config: Mapping[str, str], name: str) -> int:
    """A whole-number configuration of a topic, or its default."""
    return int(config.get(name, DEFAULTS[name]))


def _check_number(topic: str, name: str, value: str) -> None:
    try:
        if name == "min.cleanable.dirty.ratio":
            if not 0 <= float(value) <= 1:
                raise ValueError
        elif name != "compression.type":
            int(value)
    except ValueError:
        raise _invalid(f"topic {topic}: {name} must be a number, not {value!r}") from None


def _invalid(text: str) -> KafkaException:
    return KafkaException(KafkaError(KafkaError.INVALID_CONFIG, text))
