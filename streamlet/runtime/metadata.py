"""Which instance has what: the answers to questions about the whole application. Names are Kafka Streams'."""

from __future__ import annotations

from typing import ClassVar, Self

from attrs import frozen

from streamlet.records import TaskId
from streamlet.runtime.lifecycle import ThreadState


@frozen
class ThreadMetadata:
    """A stream thread.

    Attributes:
        thread_name: Its name.
        thread_state: What it does.
        active_tasks: The tasks that it owns.
    """

    thread_name: str
    thread_state: ThreadState
    active_tasks: tuple[TaskId, ...]


@frozen
class HostInfo:
    """Where an instance says that it can be asked: its ``application.server``.

    Attributes:
        host: Name or address.
        port: Port; -1 with the host ``unavailable``.
    """

    host: str
    port: int

    @classmethod
    def parse(cls, server: str) -> Self:
        """Return what ``host:port`` says, which the configuration has checked."""
        host, _, port = server.rpartition(":")
        return cls(host, int(port))

    @classmethod
    def unavailable(cls) -> Self:
        """Return what stands for a host that is not known."""
        return cls("unavailable", -1)


@frozen
class KeyQueryMetadata:
    """Where a key of a store is.

    `KeyQueryMetadata.NOT_AVAILABLE` says that nobody has it just now: ask again.

    Attributes:
        active_host: Of the instance that runs the key's task; unavailable if that one has no ``application.server``.
        standby_hosts: Of the instances that keep a copy of it.
        partition: The partition of the key, for ``app.store(..., partition=...)``; -1 if every instance has the whole
            store.
    """

    NOT_AVAILABLE: ClassVar[KeyQueryMetadata]

    active_host: HostInfo
    standby_hosts: frozenset[HostInfo]
    partition: int


KeyQueryMetadata.NOT_AVAILABLE = KeyQueryMetadata(HostInfo.unavailable(), frozenset(), -1)


@frozen
class StreamsMetadata:
    """What an instance has.

    Attributes:
        host_info: Its ``application.server``; unavailable if it has none.
        state_store_names: Stores of the tasks that it runs, and global stores.
        topic_partitions: Source partitions of the tasks that it runs.
        standby_state_store_names: Stores of which it keeps copies.
        standby_topic_partitions: Source partitions of the tasks of which it keeps copies.
    """

    host_info: HostInfo
    state_store_names: frozenset[str]
    topic_partitions: frozenset[tuple[str, int]]
    standby_state_store_names: frozenset[str]
    standby_topic_partitions: frozenset[tuple[str, int]]
