"""Which instance has a store, or a key of it: the group's members and the topology put together."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from streamlet.clients.embedded.partitioner import partitioner as partitioner_by_name
from streamlet.errors import ConfigError, SerializationError, StreamsError
from streamlet.records import TaskId
from streamlet.runtime import settings
from streamlet.runtime.context import AppContext
from streamlet.runtime.members import Membership, MembershipReader
from streamlet.runtime.metadata import HostInfo, KeyQueryMetadata, StreamsMetadata
from streamlet.runtime.queries import no_such_store
from streamlet.runtime.standby import kept_stores, tasks_with_copies
from streamlet.serdes import Serde
from streamlet.topology import Topology
from streamlet.topology.nodes import Partitioner


class Whereabouts:
    """Answers questions about all instances of an application; from any thread.

    Args:
        app: The application.
        topology: What it runs.
        members: Tells who is in the group; what it says may be a second old.
    """

    def __init__(self, app: AppContext, topology: Topology, members: MembershipReader) -> None:
        self._app = app
        self._topology = topology
        self._members = members
        self._owners = {store.name: (part, store) for part in topology.sub_topologies for store in part.stores}
        self._globals = frozenset(store.name for part in topology.global_parts for store in part.stores)

    def of_key(
        self, store: str, key: Any, key_serde: Serde[Any] | None, partitioner: Partitioner | None
    ) -> KeyQueryMetadata:
        """Return where a key is; see `KafkaStreams.query_metadata_for_key`."""
        server = self._app.config.application_server
        if server is None:
            raise ConfigError(
                "application.server is not set: without it no instance can be told from another. Set it to the "
                "host:port at which this instance answers"
            )
        if store in self._globals:
            return KeyQueryMetadata(HostInfo.parse(server), frozenset(), -1)
        if store not in self._owners:
            raise no_such_store(store, [*self._owners, *self._globals])
        part, builder = self._owners[store]
        partition = self._partition(store, part.id, key, key_serde or builder.key_serde, partitioner)
        membership = self._membership()
        task = TaskId(part.id, partition)
        owner = None if membership is None else membership.owners.get(task)
        if membership is None or owner is None:
            return KeyQueryMetadata.NOT_AVAILABLE
        copies: tuple[str, ...] = ()
        if any(kept.name == store for kept in kept_stores(part)):
            copies = membership.standbys([task], self._app.config.num_standby_replicas)[task]
        return KeyQueryMetadata(membership.host(owner), frozenset(map(membership.host, copies)), partition)

    def _partition(
        self, store: str, sub_topology: int, key: Any, serde: Serde[Any], partitioner: Partitioner | None
    ) -> int:
        topics = self._app.layout.sources[sub_topology]
        topic, count = max(topics.items(), key=lambda item: (item[1], item[0]))
        chosen = None if partitioner is None else partitioner(topic, key, None, count)
        if chosen is None:
            chosen = self._by_hash(store, key, serde)(count)
        if not isinstance(chosen, int):
            raise StreamsError(f"the partitioner chose {chosen!r} of {topic}: of several partitions none has the key")
        if not 0 <= chosen < count:
            raise StreamsError(f"the partitioner chose partition {chosen} of {topic}, which has {count}")
        return chosen

    def _by_hash(self, store: str, key: Any, serde: Serde[Any]) -> Callable[[int], int]:
        name = settings.partitioner(self._app.config)
        place, _ = partitioner_by_name(name)
        if place is None:
            raise ConfigError(f"producer.partitioner is {name!r}: a key can be in any partition")
        try:
            data = serde.serialize(key)
        except Exception as error:
            raise SerializationError(f"store {store!r}: the key {key!r} cannot be serialised: {error}") from error
        return lambda count: place(data, count)

    def of_all(self) -> tuple[StreamsMetadata, ...]:
        """Return what every instance has, those with the same host in no order; empty while the group rebalances."""
        membership = self._membership()
        if membership is None:
            return ()
        placed = membership.standbys(
            tasks_with_copies(self._app.sub_topologies, membership.owners), self._app.config.num_standby_replicas
        )
        return tuple(
            self._of(
                membership.host(instance),
                [task for task, owner in membership.owners.items() if owner == instance],
                [task for task, keepers in placed.items() if instance in keepers],
            )
            for instance in sorted(membership.instances)
        )

    def of_store(self, store: str) -> tuple[StreamsMetadata, ...]:
        """Return what those instances have that have a store, or a copy of it."""
        if store not in self._owners and store not in self._globals:
            raise no_such_store(store, [*self._owners, *self._globals])
        return tuple(
            metadata
            for metadata in self.of_all()
            if store in metadata.state_store_names or store in metadata.standby_state_store_names
        )

    def _of(self, host: HostInfo, active: Iterable[TaskId], copies: Iterable[TaskId]) -> StreamsMetadata:
        parts = self._app.sub_topologies
        active, copies = list(active), list(copies)
        return StreamsMetadata(
            host,
            self._globals | {store.name for task in active for store in parts[task.sub_topology].stores},
            frozenset(place for task in active for place in self._app.layout.partitions_of(task)),
            frozenset(store.name for task in copies for store in kept_stores(parts[task.sub_topology])),
            frozenset(place for task in copies for place in self._app.layout.partitions_of(task)),
        )

    def _membership(self) -> Membership | None:
        instances = self._members.read()
        return None if not instances else Membership.of(instances, self._app.plan)
