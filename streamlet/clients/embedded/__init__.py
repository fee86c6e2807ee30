"""The embedded log: Kafka's semantics on one machine, in one SQLite file or in memory, behind confluent-kafka's names.

Addresses (``bootstrap.servers``):

- ``embedded:path/to/log.db``: a file, made where there is none, shared by any processes of the machine;
- ``embedded:``: one log in memory for all clients of the process;
- ``embedded:mem:NAME``: another log in memory, for all clients of the process that give the same name.

Options follow a question mark: ``partitions=N`` (of topics made on first use, 1), ``synchronous=full``,
``cache.bytes=N`` (how much of what the process appends stays in memory for its consumers, 64 MiB).

Guarantees. After the death of the process nothing that was acknowledged (delivery report, commit) is lost, and no
part of an unfinished transaction is visible. A loss of power may cost the last commits, never consistency; with
``synchronous=full`` it costs nothing. A transaction's records, and the consumer offsets sent to it, become visible at
once or never. A consumer group lives in one process at a time; any process may produce, and read with a group of its
own.

Other than on a cluster: records of an open transaction are nowhere visible, so a read_uncommitted reader sees no
aborted data, and the last stable offset is the end (`faults` makes both for tests); delivery reports of a transaction
come with ``commit_transaction``; transactions do not time out; consumers do not commit automatically.
"""

from __future__ import annotations

from attrs import frozen

from streamlet.clients.embedded.address import is_embedded, parse
from streamlet.clients.embedded.admin import AdminClient
from streamlet.clients.embedded.broker import Broker, broker_for, discard
from streamlet.clients.embedded.consumer import Consumer
from streamlet.clients.embedded.producer import Producer
from streamlet.clients.supplier import Config

__all__ = ["EmbeddedSupplier", "discard", "is_embedded"]


@frozen
class EmbeddedSupplier:
    """Clients of an embedded log; one supplier, one open log.

    Attributes:
        bootstrap_servers: The log's address.
        broker: The log itself.
    """

    bootstrap_servers: str
    broker: Broker

    @classmethod
    def open(cls, bootstrap_servers: str) -> EmbeddedSupplier:
        """Open the log of an address.

        Raises:
            ConfigError: Unknown options.
            StreamsError: The file cannot be used.
        """
        return cls(bootstrap_servers, broker_for(parse(bootstrap_servers)))

    def consumer(self, config: Config) -> Consumer:
        """A consumer; the defaults are those of the Kafka supplier."""
        return Consumer(self.broker, {"auto.offset.reset": "earliest", **config})

    def producer(self, config: Config) -> Producer:
        """A producer."""
        return Producer(self.broker, config)

    def admin(self, config: Config) -> AdminClient:
        """An admin client."""
        return AdminClient(self.broker)
