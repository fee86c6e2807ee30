"""Where the runtime gets its Kafka clients: from a cluster, or from the embedded log.

`supplier_for` chooses by ``bootstrap.servers``; everything else is written against `ClientSupplier` alone.
"""

from __future__ import annotations

from streamlet.clients.embedded import EmbeddedSupplier, is_embedded
from streamlet.clients.kafka import KafkaSupplier
from streamlet.clients.supplier import AdminClient, ClientSupplier, Consumer, Message, Producer
from streamlet.errors import ConfigError

__all__ = [
    "AdminClient",
    "ClientSupplier",
    "Consumer",
    "EmbeddedSupplier",
    "KafkaSupplier",
    "Message",
    "Producer",
    "is_embedded",
    "supplier_for",
]


def supplier_for(bootstrap_servers: str) -> ClientSupplier:
    """The supplier for an address.

    Args:
        bootstrap_servers: ``embedded:path/to/log.db`` for an embedded log in a file; ``embedded:`` for the process's
            log in memory, ``embedded:mem:NAME`` for another; anything else is a cluster's ``host:port,…``.

    Raises:
        ConfigError: The address is empty, or has unknown options.
        StreamsError: The embedded log cannot be opened.
    """
    if not bootstrap_servers or not bootstrap_servers.strip():
        raise ConfigError("bootstrap.servers is empty: give host:port, or embedded:path/to/log.db for the embedded log")
    if is_embedded(bootstrap_servers):
        return EmbeddedSupplier.open(bootstrap_servers)
    return KafkaSupplier(bootstrap_servers)
