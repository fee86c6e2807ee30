"""The supplier of real clients, with the defaults that streamlet needs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import confluent_kafka
import confluent_kafka.admin
from attrs import frozen
from confluent_kafka import KafkaError, KafkaException

from streamlet.clients.patience import PatientProducer
from streamlet.clients.supplier import AdminClient, Config, Consumer, Producer
from streamlet.errors import ConfigError

# librdkafka's pause after a full prefetch queue is 1 s: 20 ms keep a caught-up partition's latency low.
CONSUMER_DEFAULTS: Final[Mapping[str, Any]] = {
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",
    "fetch.queue.backoff.ms": 20,
    "partition.assignment.strategy": "cooperative-sticky",
    "isolation.level": "read_committed",
}

# The classic protocol's own settings: under KIP-848 librdkafka refuses them.
_CLASSIC_ONLY: Final = ("partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms")

PRODUCER_DEFAULTS: Final[Mapping[str, Any]] = {
    "enable.idempotence": True,
    "partitioner": "murmur2_random",
    "linger.ms": 5,
}

# An open transaction of a dead owner blocks readers for this long; librdkafka's default is 60 s.
TRANSACTION_TIMEOUT_MS: Final = 10_000


# What librdkafka has to say (a broker is down, a connection was lost) goes to Python's logging, not to standard error.
_librdkafka_log = logging.getLogger("streamlet.librdkafka")
# The admin client is not polled between its calls, so nobody would take its lines; its errors are raised by the calls.
_SILENT: Final = 0


def _made(kind: str, make: Callable[[dict[str, Any]], Any], settings: dict[str, Any]) -> Any:
    """Make a client.

    Raises:
        ConfigError: It refuses its settings. Their values are not repeated: some are secrets.
    """
    try:
        return make(settings)
    except KafkaException as exception:
        error: KafkaError = exception.args[0]
        raise ConfigError(f"the settings of the {kind} are refused: {error.str()}") from exception


@frozen
class KafkaSupplier:
    """Clients of a cluster; what librdkafka logs goes to the logger ``streamlet.librdkafka``.

    Attributes:
        bootstrap_servers: The cluster's addresses, ``host:port,host:port``.
    """

    bootstrap_servers: str

    def consumer(self, config: Config) -> Consumer:
        """A ``confluent_kafka.Consumer``; under ``group.protocol=consumer`` without the classic protocol's defaults."""
        merged = self._merged(CONSUMER_DEFAULTS, config)
        if str(merged.get("group.protocol", "classic")).lower() == "consumer":
            for key in _CLASSIC_ONLY:
                if key not in config:
                    merged.pop(key, None)
        return cast(Consumer, _made("consumer", confluent_kafka.Consumer, merged))

    def producer(self, config: Config) -> Producer:
        """A ``confluent_kafka.Producer``, idempotent."""
        merged = self._merged(PRODUCER_DEFAULTS, config)
        if merged.get("transactional.id"):
            merged.setdefault("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
            # librdkafka refuses a delivery timeout above the transaction's; its own default follows the latter.
            if "message.timeout.ms" not in merged and "delivery.timeout.ms" not in merged:
                merged["message.timeout.ms"] = int(merged["transaction.timeout.ms"])
        kind = PatientProducer if merged.get("transactional.id") else confluent_kafka.Producer
        return cast(Producer, _made("producer", kind, merged))

    def admin(self, config: Config) -> AdminClient:
        """A ``confluent_kafka.admin.AdminClient``."""
        merged = {"bootstrap.servers": self.bootstrap_servers, "log_level": _SILENT, **config}
        return cast(AdminClient, _made("admin client", confluent_kafka.admin.AdminClient, merged))

    def _merged(self, defaults: Mapping[str, Any], config: Config) -> dict[str, Any]:
        return {"bootstrap.servers": self.bootstrap_servers, "logger": _librdkafka_log, **defaults, **config}
