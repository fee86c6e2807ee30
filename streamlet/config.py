"""The configuration: each key declared once, with its type, default and meaning.

Keys are Kafka Streams' (``commit.interval.ms``). Those that begin with ``consumer.``, ``main.consumer.``,
``restore.consumer.``, ``producer.`` or ``admin.`` go to the clients without the prefix, ``security.``, ``sasl.`` and
``ssl.`` to all clients, and those that begin with ``topic.`` to internal topics. Everything else is refused.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen

from streamlet.errors import ConfigError

CLIENT_PREFIXES = ("main.consumer.", "restore.consumer.", "consumer.", "producer.", "admin.")
SECURITY_PREFIXES = ("security.", "sasl.", "ssl.")
TOPIC_PREFIX = "topic."
ALIASES = {"brokers": "bootstrap.servers", "cache.max.bytes.buffering": "statestore.cache.max.bytes"}
EMBEDDED_PREFIX = "embedded:"


class ProcessingGuarantee(Enum):
    """What a crash may do to results: repeat them, or neither repeat nor lose them."""

    AT_LEAST_ONCE = "at_least_once"
    EXACTLY_ONCE_V2 = "exactly_once_v2"


def _text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{key} must be a non-empty string, not {value!r}")
    return value


def _integer(low: int, high: int = 2**63 - 1) -> Callable[[str, object], int]:
    def parse(key: str, value: object) -> int:
        try:
            if isinstance(value, bool) or not isinstance(value, int | str):
                raise ValueError
            number = int(value)
        except ValueError:
            raise ConfigError(f"{key} must be a whole number, not {value!r}") from None
        if not low <= number <= high:
            raise ConfigError(f"{key} must be between {low} and {high}, not {number}")
        return number

    return parse


def _guarantee(key: str, value: object) -> ProcessingGuarantee:
    if isinstance(value, ProcessingGuarantee):
        return value
    if value in ("exactly_once", "exactly_once_beta"):
        raise ConfigError(f"{key}: {value!r} was removed in Kafka 4.0; write 'exactly_once_v2'")
    try:
        return ProcessingGuarantee(value)
    except ValueError:
        raise ConfigError(f"{key} must be 'at_least_once' or 'exactly_once_v2', not {value!r}") from None


def _path(key: str, value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise ConfigError(f"{key} must be a path, not {value!r}")
    return Path(value)


def _choice(*choices: str) -> Callable[[str, object], str]:
    def parse(key: str, value: object) -> str:
        if value not in choices:
            raise ConfigError(f"{key} must be one of {', '.join(map(repr, choices))}, not {value!r}")
        return value

    return parse


OPTIMIZATIONS = frozenset({"merge.repartition.topics", "reuse.ktable.source.topics", "single.store.self.join"})
OPTIMIZATION_KEY = "topology.optimization"
EXPLICIT_NAMING_KEY = "ensure.explicit.internal.resource.naming"


def optimizations(key: str, value: object) -> frozenset[str]:
    """Return the names of the optimisations that ``topology.optimization`` asks for.

    Raises:
        ConfigError: If it is not ``none``, ``all``, or some of the names with commas between them.
    """
    if isinstance(value, str):
        names = frozenset(name.strip() for name in value.split(","))
    elif isinstance(value, list | tuple | set | frozenset):
        names = frozenset(map(str, value))
    else:
        raise ConfigError(f"{key} must be a string, not {value!r}")
    if names in ({"none"}, set()):
        return frozenset()
    if names == {"all"}:
        return OPTIMIZATIONS
    unknown = names - OPTIMIZATIONS
    if unknown:
        raise ConfigError(
            f"{key}: {', '.join(map(repr, sorted(unknown)))} is not supported; it is 'none', 'all', or some of "
            f"{', '.join(sorted(OPTIMIZATIONS))}"
        )
    return names


def _server(key: str, value: object) -> str:
    text = _text(key, value)
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536) or any(map(str.isspace, text)):
        raise ConfigError(f"{key} must be host:port, not {value!r}")
    return text


def boolean(key: str, value: object) -> bool:
    """Return whether a setting is on.

    Raises:
        ConfigError: If it is neither a bool nor 'true' or 'false'.
    """
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ConfigError(f"{key} must be true or false, not {value!r}")


def _callable(key: str, value: object) -> Callable[..., Any]:
    if not callable(value):
        raise ConfigError(f"{key} must be a function or an object that can be called, not {value!r}")
    return value


def _topic(key: str, value: object) -> str:
    text = _text(key, value)
    if not _legal(text, 249):
        raise ConfigError(
            f"{key}: {text!r} is no topic's name: use 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-'"
        )
    return text


def _legal(name: str, most: int) -> bool:
    return (
        all((c.isalnum() and c.isascii()) or c in "._-" for c in name) and len(name) <= most and name not in {".", ".."}
    )


def _application_id(key: str, value: object) -> str:
    text = _text(key, value)
    if not _legal(text, 200):
        raise ConfigError(
            f"{key} {text!r} may hold the characters a-z, A-Z, 0-9, '.', '_' and '-' only: topics are named after it"
        )
    return text


def _setting(
    key: str, parse: Callable[[str, object], Any], default: Any = attrs.NOTHING, *, doc: str, ours: bool = False
) -> Any:
    """Declare a key. `ours` marks keys that Kafka Streams does not have."""
    return field(default=default, kw_only=True, metadata={"key": key, "parse": parse, "doc": doc, "ours": ours})


@frozen
class StreamsConfig:
    """A checked configuration."""

    application_id: str = _setting(
        "application.id",
        _application_id,
        doc="Name of the application: its consumer group, and the prefix of its topics.",
    )
    bootstrap_servers: str = _setting(
        "bootstrap.servers",
        _text,
        doc="Addresses of brokers, or 'embedded:path/to/log.db' for the embedded log ('embedded:' keeps it in memory).",
    )
    processing_guarantee: ProcessingGuarantee = _setting(
        "processing.guarantee",
        _guarantee,
        ProcessingGuarantee.AT_LEAST_ONCE,
        doc="'at_least_once' or 'exactly_once_v2'.",
    )
    num_stream_threads: int = _setting("num.stream.threads", _integer(1, 256), 1, doc="Number of stream threads.")
    client_id: str | None = _setting(
        "client.id", _text, None, doc="Prefix of the clients' ids; default: the application's id."
    )
    state_dir: Path | None = _setting(
        "state.dir",
        _path,
        None,
        doc="Local state. Default: beside the file for an embedded log, otherwise $XDG_STATE_HOME/streamlet.",
    )
    commit_interval_ms: int = _setting(
        "commit.interval.ms",
        _integer(0),
        None,
        doc="Longest time between commits: 30,000, or 100 with exactly_once_v2. Drained input commits at once.",
    )
    poll_ms: int = _setting("poll.ms", _integer(0), 100, doc="How long to wait for input when there is none.")
    buffered_records_per_partition: int = _setting(
        "buffered.records.per.partition", _integer(1), 1000, doc="A partition with more records waiting is paused."
    )
    max_task_idle_ms: int = _setting(
        "max.task.idle.ms",
        _integer(-1),
        0,
        doc="How long a task waits for partitions without data: -1 not at all, 0 until caught up.",
    )
    task_timeout_ms: int = _setting(
        "task.timeout.ms",
        _integer(0),
        300_000,
        doc="How long an operation that timed out is tried again before the task fails.",
    )
    window_emit_interval_ms: int = _setting(
        "__emit.interval.ms.kstreams.windowed.aggregation__",
        _integer(0),
        1000,
        doc="How often (wall clock) closed windows are looked for, with EmitStrategy.ON_WINDOW_CLOSE. Internal.",
    )
    join_emit_interval_ms: int = _setting(
        "__emit.interval.ms.kstreams.outer.join.spurious.results.fix__",
        _integer(0),
        1000,
        doc="How often (wall clock) unmatched rows of left and outer joins are looked for. Internal.",
    )
    replication_factor: int = _setting(
        "replication.factor", _integer(-1, 32767), -1, doc="Of internal topics; -1: the broker's default."
    )
    state_cleanup_delay_ms: int = _setting(
        "state.cleanup.delay.ms", _integer(0), 600_000, doc="State of tasks that moved away is deleted after this time."
    )
    windowstore_changelog_additional_retention_ms: int = _setting(
        "windowstore.changelog.additional.retention.ms",
        _integer(0),
        24 * 60 * 60 * 1000,
        doc="How much longer than the store a window store's changelog keeps records: brokers go by the wall clock.",
    )
    repartition_purge_interval_ms: int = _setting(
        "repartition.purge.interval.ms",
        _integer(0),
        30_000,
        doc="How often processed records of repartition topics are deleted.",
    )
    deserialization_exception_handler: Callable[..., Any] | None = _setting(
        "deserialization.exception.handler", _callable, None, doc="Asked when bytes cannot be read; default: fail."
    )
    processing_exception_handler: Callable[..., Any] | None = _setting(
        "processing.exception.handler", _callable, None, doc="Asked when user code raises; default: fail."
    )
    production_exception_handler: Callable[..., Any] | None = _setting(
        "production.exception.handler", _callable, None, doc="Asked when a record cannot be written; default: fail."
    )
    dead_letter_queue_topic: str | None = _setting(
        "errors.dead.letter.queue.topic.name", _topic, None, doc="Where records go that a handler lets pass (KIP-1034)."
    )
    topology_optimization: frozenset[str] = _setting(
        OPTIMIZATION_KEY,
        optimizations,
        frozenset(),
        doc="'none', 'all', or some of 'merge.repartition.topics', 'reuse.ktable.source.topics', "
        "'single.store.self.join'. builder.build(config) makes them, start checks it.",
    )
    application_server: str | None = _setting(
        "application.server",
        _server,
        None,
        doc="host:port at which others can ask this instance; query_metadata_for_key tells them. Serving it is yours.",
    )
    num_standby_replicas: int = _setting(
        "num.standby.replicas",
        _integer(0),
        0,
        doc="How many copies of each task's stores to keep warm on other instances. The same on all of them.",
    )
    ensure_explicit_internal_resource_naming: bool = _setting(
        EXPLICIT_NAMING_KEY,
        boolean,
        False,
        doc="Refuse generated names of stores and repartition topics, on build and on start (KIP-1111).",
    )
    group_protocol: str = _setting(
        "group.protocol",
        _choice("classic", "consumer"),
        "classic",
        doc="'classic' (cooperative-sticky), or 'consumer' for the broker's own (KIP-848; brokers from 4.0).",
    )
    state_memory_max_bytes: int = _setting(
        "state.memory.max.bytes",
        _integer(8 << 20),
        256 << 20,
        doc="RocksDB's block cache and write buffers, and entries kept as objects, together, over the whole process.",
        ours=True,
    )
    state_buffer_max_bytes: int = _setting(
        "state.buffer.max.bytes",
        _integer(64 << 10),
        64 << 20,
        doc="Uncommitted changes of a thread's stores in memory; more asks for an early commit.",
        ours=True,
    )
    cache_max_bytes: int = _setting(
        "statestore.cache.max.bytes",
        _integer(0),
        0,
        doc="Changes of tables held back for one per row and commit, over all threads; 0 (unlike Kafka Streams): none.",
    )
    clients: Mapping[str, Mapping[str, Any]] = field(factory=dict, kw_only=True, repr=False)
    topic_configs: Mapping[str, str] = field(factory=dict, kw_only=True)

    @property
    def exactly_once(self) -> bool:
        """Whether the guarantee is exactly_once_v2."""
        return self.processing_guarantee is ProcessingGuarantee.EXACTLY_ONCE_V2

    @property
    def embedded(self) -> bool:
        """Whether the log is the embedded one."""
        return self.bootstrap_servers.startswith(EMBEDDED_PREFIX)

    def client(self, *kinds: str) -> dict[str, Any]:
        """Return what was given for clients of these kinds (``consumer``, ``main.consumer`` ...); later kinds win."""
        merged: dict[str, Any] = dict(self.clients.get("", {}))
        for kind in kinds:
            merged.update(self.clients.get(kind, {}))
        return merged

    @classmethod
    def parse(cls, given: Mapping[str, Any]) -> StreamsConfig:
        """Check a mapping of Kafka Streams' keys.

        Raises:
            ConfigError: If a key is unknown, not supported, missing or has a wrong value. All faults are listed.
        """
        if not isinstance(given, Mapping):
            raise ConfigError(f"the configuration must be a mapping of keys to values, not a {type(given).__name__}")
        declared = {f.metadata["key"]: f for f in attrs.fields(cls) if "key" in f.metadata}
        values: dict[str, Any] = {}
        clients: dict[str, dict[str, Any]] = {}
        topics: dict[str, str] = {}
        faults: list[str] = []
        for original, value in given.items():
            if not isinstance(original, str):
                faults.append(f"keys are strings, not {original!r}")
                continue
            key = ALIASES.get(original, original)
            if key != original and key in given:
                faults.append(f"{original!r} is another name of {key!r}: give one of them")
                continue
            prefix = next((p for p in CLIENT_PREFIXES if key.startswith(p)), None)
            if key in declared:
                try:
                    values[declared[key].name] = declared[key].metadata["parse"](key, value)
                except ConfigError as error:
                    faults.append(str(error))
            elif prefix is not None:
                fault = _client_fault(key, key.removeprefix(prefix), prefix)
                if fault:
                    faults.append(fault)
                clients.setdefault(prefix[:-1], {})[key.removeprefix(prefix)] = value
            elif key.startswith(SECURITY_PREFIXES):
                clients.setdefault("", {})[key] = value
            elif key.startswith(TOPIC_PREFIX):
                topics[key.removeprefix(TOPIC_PREFIX)] = str(value)
            else:
                faults.append(_unknown(key, list(declared)))
        faults += _isolation_faults(clients, values.get("processing_guarantee"))
        for key, setting in declared.items():
            names = {key, *(alias for alias, name in ALIASES.items() if name == key)}
            if setting.default is attrs.NOTHING and not names & set(given):
                faults.append(f"{key} is missing: {setting.metadata['doc']}")
        if faults:
            raise ConfigError("; ".join(faults))
        if values.get("commit_interval_ms") is None:
            exactly_once = values.get("processing_guarantee") is ProcessingGuarantee.EXACTLY_ONCE_V2
            values["commit_interval_ms"] = 100 if exactly_once else 30_000
        return cls(**values, clients=clients, topic_configs=topics)


# What the runtime sets itself: another value would break its guarantees.
_RESERVED = {
    "enable.auto.commit": "streamlet commits by itself, together with the state",
    "enable.auto.offset.store": "streamlet commits by itself, together with the state",
    "group.id": "it is the application.id",
    "transactional.id": "it is kept in the state directory, so that a restarted process fences its predecessor",
    "enable.idempotence": "it is always on",
    "partition.assignment.strategy": "it is cooperative-sticky, or the broker's (group.protocol=consumer)",
    "bootstrap.servers": "it is set once, as bootstrap.servers",
    "group.protocol": "it is set once, as group.protocol",
}


def _isolation_faults(clients: Mapping[str, Mapping[str, Any]], guarantee: object) -> list[str]:
    faults: list[str] = []
    for kind, given in clients.items():
        if "isolation.level" not in given:
            continue
        key, level = f"{kind}.isolation.level", given["isolation.level"]
        if kind == "restore.consumer":
            faults.append(f"{key} cannot be set: of changelogs only committed records are read")
        elif level not in ("read_committed", "read_uncommitted"):
            faults.append(f"{key} must be 'read_committed' or 'read_uncommitted', not {level!r}")
        elif guarantee is ProcessingGuarantee.EXACTLY_ONCE_V2 and level != "read_committed":
            faults.append(f"{key} cannot be {level!r}: with exactly_once_v2 only committed records are read")
    return faults


def _client_fault(key: str, bare: str, prefix: str) -> str | None:
    if bare in _RESERVED:
        return f"{key} cannot be set: {_RESERVED[bare]}"
    if bare == "client.id" and prefix in ("consumer.", "main.consumer."):
        return f"{key} cannot be set: it tells which instance a member of the group belongs to; set client.id"
    if bare == "acks" and prefix == "producer.":
        return f"{key} cannot be set: an idempotent producer writes with acks=all"
    return None


_NOT_SUPPORTED = {
    "acceptable.recovery.lag": "tasks are placed by the group's assignor",
    "built.in.metrics.version": "there is one version of the metrics",
    "default.client.supplier": "the supplier follows from bootstrap.servers",
    "default.deserialization.exception.handler": "write deserialization.exception.handler",
    "default.production.exception.handler": "write production.exception.handler",
    "default.dsl.store": "say Materialized(..., in_memory=True) where a store is made",
    "default.key.serde": "give StreamsBuilder(default_key_serde=...)",
    "default.value.serde": "give StreamsBuilder(default_value_serde=...)",
    "default.list.key.serde.inner": "serdes are objects, given in code",
    "default.list.key.serde.type": "serdes are objects, given in code",
    "default.list.value.serde.inner": "serdes are objects, given in code",
    "default.list.value.serde.type": "serdes are objects, given in code",
    "default.timestamp.extractor": "give builder.stream(..., timestamp_extractor=...)",
    "dsl.store.suppliers.class": "say Materialized(..., in_memory=True) where a store is made",
    "enable.metrics.push": "librdkafka pushes its own metrics: set consumer.enable.metrics.push",
    "log.summary.interval.ms": None,
    "max.warmup.replicas": "there are no warm-up replicas",
    "metric.reporters": "give a Sensor: KafkaStreams(..., sensor=...)",
    "metrics.num.samples": "give a Sensor: KafkaStreams(..., sensor=...)",
    "metrics.recording.level": "give a Sensor: KafkaStreams(..., sensor=...)",
    "metrics.sample.window.ms": "give a Sensor: KafkaStreams(..., sensor=...)",
    "probing.rebalance.interval.ms": "there are no warm-up replicas",
    "process.exception.handler": "write processing.exception.handler",
    "rack.aware.assignment.non_overlap_cost": "the group's assignor does not know racks",
    "rack.aware.assignment.strategy": "the group's assignor does not know racks",
    "rack.aware.assignment.tags": "the group's assignor does not know racks",
    "rack.aware.assignment.traffic_cost": "the group's assignor does not know racks",
    "rocksdb.config.setter": "one memory bound covers all stores: state.memory.max.bytes",
    "task.assignor.class": "tasks are placed by the group's assignor",
    "upgrade.from": "there is no older version to upgrade from",
    "window.size.ms": "windowed serdes take their size in code",
    "windowed.inner.class.serde": "windowed serdes take their inner serde in code",
    "acks": "an idempotent producer writes with acks=all",
    "auto.offset.reset": "write consumer.auto.offset.reset, or give builder.stream(..., auto_offset_reset=...)",
    "max.poll.interval.ms": "write consumer.max.poll.interval.ms",
    "session.timeout.ms": "write consumer.session.timeout.ms",
}


def _unknown(key: str, declared: list[str]) -> str:
    if key in _NOT_SUPPORTED:
        reason = _NOT_SUPPORTED[key]
        return f"{key} is not supported" + (f": {reason}" if reason else " by this version")
    near = difflib.get_close_matches(key, [*declared, *ALIASES], n=1, cutoff=0.6)
    if near:
        return f"{key} is unknown: did you mean {near[0]}?"
    prefixes = ", ".join((*CLIENT_PREFIXES, *SECURITY_PREFIXES, TOPIC_PREFIX))
    return f"{key} is unknown: the keys are {', '.join(sorted(declared))}, and those with the prefixes {prefixes}"
