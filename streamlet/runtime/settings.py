"""The settings of the clients: what the runtime's rules demand, over what the user gave, over defaults."""

from __future__ import annotations

from typing import Any

from streamlet.config import StreamsConfig

# A consumer of its own group that never joins one: confluent-kafka wants a group.id from every consumer.
_READER_GROUP = "-reader"
_SMALL_QUEUE_KBYTES = 16 * 1024
_STANDBY_QUEUE_KBYTES = 4 * 1024
_STANDBY_FETCH_WAIT_MS = 500
# The end of a partition is reported only after a fetch has waited there: librdkafka's default is half a second.
_FETCH_WAIT_MS = 50

# With group.protocol=consumer the broker decides these, and librdkafka refuses them.
_CLASSIC_DEFAULTS: dict[str, Any] = {"session.timeout.ms": 10_000}
DEFAULT_MAX_POLL_INTERVAL_MS = 300_000
DEFAULT_TRANSACTION_TIMEOUT_MS = 10_000
DEFAULT_METADATA_REFRESH_MS = 300_000
# Of changelogs, under at-least-once too: what exactly-once has aborted must not come back with another guarantee.
COMMITTED = "read_committed"
DEFAULT_PARTITIONER = "murmur2_random"  # as Kafka's own clients


def main_consumer(config: StreamsConfig, client_id: str, thread: int, *, ends: bool) -> dict[str, Any]:
    """Return the settings of a stream thread's consumer, the one that is a member of the group.

    ``group.instance.id``, if given, gets the thread's number as a suffix, for it must be unique in the group. Where to
    begin without a committed offset is decided per source by the runtime, therefore ``auto.offset.reset`` is ``error``
    here.

    Args:
        config: The application's configuration.
        client_id: Of the consumer.
        thread: Number of the thread.
        ends: Whether to be told of partitions' ends: tasks with several partitions need not wait for one that was read
            to its end.
    """
    given = config.client("consumer", "main.consumer")
    if "group.instance.id" in given:
        given["group.instance.id"] = f"{given['group.instance.id']}-{thread}"
    classic = config.group_protocol == "classic"
    return {
        "client.id": client_id,
        # librdkafka waits a second before it fetches again once its queue was full
        "fetch.queue.backoff.ms": 20,
        # A partition that is added, or resumed, waits until the fetch under way is answered
        "fetch.wait.max.ms": _FETCH_WAIT_MS if ends else 2 * _FETCH_WAIT_MS,
        **(_CLASSIC_DEFAULTS if classic else {}),
        **given,
        "bootstrap.servers": config.bootstrap_servers,
        "group.id": config.application_id,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "allow.auto.create.topics": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": ends,
        "isolation.level": isolation(config),
        "group.protocol": config.group_protocol,
        **({"partition.assignment.strategy": "cooperative-sticky"} if classic else {}),
    }


def standby(config: StreamsConfig, client_id: str) -> dict[str, Any]:
    """Return the settings of the consumer of standby replicas: a reader in no haste, with small queues."""
    patient = {"queued.max.messages.kbytes": _STANDBY_QUEUE_KBYTES, "fetch.wait.max.ms": _STANDBY_FETCH_WAIT_MS}
    given = config.client("consumer", "restore.consumer")
    return {
        **reader(config, client_id, "restore.consumer", isolation_level=COMMITTED),
        **{key: value for key, value in patient.items() if key not in given},
    }


def reader(config: StreamsConfig, client_id: str, *kinds: str, isolation_level: str) -> dict[str, Any]:
    """Return the settings of a consumer outside of the group, assigned by hand and told of partitions' ends."""
    given = config.client("consumer", *kinds)
    for key in ("group.instance.id", "session.timeout.ms", "heartbeat.interval.ms", "max.poll.interval.ms"):
        given.pop(key, None)
    return {
        "client.id": client_id,
        "fetch.queue.backoff.ms": 20,
        "queued.max.messages.kbytes": _SMALL_QUEUE_KBYTES,
        "fetch.wait.max.ms": _FETCH_WAIT_MS,
        **given,
        "bootstrap.servers": config.bootstrap_servers,
        "group.id": config.application_id + _READER_GROUP,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "allow.auto.create.topics": False,
        "auto.offset.reset": "error",
        "isolation.level": isolation_level,
    }


def producer(config: StreamsConfig, client_id: str, *, transactional_id: str | None = None) -> dict[str, Any]:
    """Return the settings of a producer; with a transactional id, of one that writes in transactions."""
    transactional: dict[str, Any] = {}
    defaults: dict[str, Any] = {"client.id": client_id, "linger.ms": 5, "partitioner": DEFAULT_PARTITIONER}
    if transactional_id is not None:
        # An open transaction of a dead owner holds up readers that long; librdkafka's default is a minute.
        defaults["transaction.timeout.ms"] = DEFAULT_TRANSACTION_TIMEOUT_MS
        # A transaction that follows its predecessor before that one's markers are in is told to ask again: after
        # librdkafka's 100 ms every second commit would wait that long (docs/runtime-findings.md)
        defaults["retry.backoff.ms"] = 10
        defaults["retry.backoff.max.ms"] = 50
        transactional = {"transactional.id": transactional_id}
    return {
        **defaults,
        **config.client("producer"),
        "bootstrap.servers": config.bootstrap_servers,
        "enable.idempotence": True,
        **transactional,
    }


def partitioner(config: StreamsConfig) -> str:
    """Return the name of the partitioner of the application's producers."""
    return str(config.client("producer").get("partitioner", DEFAULT_PARTITIONER))


def admin(config: StreamsConfig, client_id: str) -> dict[str, Any]:
    """Return the settings of the admin client."""
    return {"client.id": client_id, **config.client("admin"), "bootstrap.servers": config.bootstrap_servers}


def isolation(config: StreamsConfig) -> str:
    """Return how the application reads: committed records only under exactly-once; else as it is told, or all."""
    if config.exactly_once:
        return COMMITTED
    return str(config.client("consumer", "main.consumer").get("isolation.level", "read_uncommitted"))


def restore_isolation(config: StreamsConfig, *, sources: bool) -> str:
    """Return how changelogs are read.

    Args:
        config: The application's configuration.
        sources: Whether a source topic serves as one: it is read as it was when the table was made from it.
    """
    return isolation(config) if sources else COMMITTED


def max_poll_interval(config: StreamsConfig) -> float:
    """Return within how many seconds the consumer must be polled again."""
    given = config.client("consumer", "main.consumer").get("max.poll.interval.ms", DEFAULT_MAX_POLL_INTERVAL_MS)
    return int(given) / 1000


def metadata_interval(config: StreamsConfig) -> float:
    """Return how often (seconds) new topics and partitions are looked for: the consumer's own setting."""
    given = config.client("consumer", "main.consumer").get(
        "topic.metadata.refresh.interval.ms", DEFAULT_METADATA_REFRESH_MS
    )
    return int(given) / 1000


def default_reset(config: StreamsConfig) -> str:
    """Return where a partition begins without a committed offset or a word of its source: earliest, latest or none."""
    given = str(config.client("consumer", "main.consumer").get("auto.offset.reset", "earliest"))
    known = {"smallest": "earliest", "beginning": "earliest", "largest": "latest", "end": "latest", "error": "none"}
    return known.get(given, given)
