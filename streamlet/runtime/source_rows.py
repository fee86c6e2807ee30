"""Restoring a table from the topic it is read from (``reuse.ktable.source.topics``).

What comes back must be what processing put there: records are read with the source's serdes and timestamp extractor,
and written with the store's. Those that processing had to skip (no key, unreadable, no valid timestamp) are skipped
here too.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from streamlet.records import Record
from streamlet.runtime.places import Place
from streamlet.state import ChangelogRecord, StoreBuilder
from streamlet.topology import SourceNode

if TYPE_CHECKING:
    from streamlet.clients.supplier import Message
    from streamlet.runtime.active import ActiveTask

_log = logging.getLogger(__name__)


def source_rows(task: ActiveTask) -> dict[Place, SourceRows]:
    """Return what reads the source partitions that serve a task as changelogs."""
    sources = {topic: source for source in task.sub_topology.sources for topic in source.topics}
    return {
        (store.source_topic, task.id.partition): SourceRows(task, store, sources[store.source_topic])
        for store in task.sub_topology.stores
        if store.source_topic is not None and (store.source_topic, task.id.partition) in task.partitions
    }


class SourceRows:
    """Makes changes of a table's store of the records of its topic.

    Attributes:
        task: Whose table it is.
        store: Name of the store.
    """

    def __init__(self, task: ActiveTask, store: StoreBuilder[Any], source: SourceNode) -> None:
        self.task = task
        self.store = store.name
        self._builder = store
        self._source = source
        self._partition_time = -1

    def record(self, message: Message) -> ChangelogRecord | None:
        """Return what a record changed; None if it was skipped."""
        source, store = self._source, self._builder
        raw_key, raw_value = message.key(), message.value()
        if raw_key is None:
            return None
        try:
            key = source.key_serde.deserialize(raw_key)
            value = None if raw_value is None else source.value_serde.deserialize(raw_value)
            timestamp = message.timestamp()[1]
            if source.timestamp_extractor is not None:
                record = Record(key, value, timestamp, message.headers() or ())
                timestamp = source.timestamp_extractor(record, self._partition_time)
            if key is None or timestamp < 0:
                return None
            self._partition_time = max(self._partition_time, timestamp)
            data = None if value is None else store.value_serde.serialize(value)
            return ChangelogRecord(store.key_serde.serialize(key), data, timestamp)
        except Exception as error:
            # within what is committed: processing came by here, and could only go on by skipping it
            _log.warning(
                "%s[%s] offset %s is not restored to store %s, as it was skipped when it was processed: %s",
                message.topic(), message.partition(), message.offset(), self.store, error,
            )  # fmt: skip
            return None
