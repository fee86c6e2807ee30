"""How many partitions each topic has, and how many tasks each sub-topology: functions of topology and topics."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from attrs import frozen

from streamlet.errors import InvalidTopicError, MissingSourceTopicError, TopologyError
from streamlet.records import TaskId
from streamlet.state import StoreBuilder
from streamlet.topology import SubTopology, changelog_name, internal_name

TASKS_SUFFIX = "-tasks"


def tasks_topic(application_id: str) -> str:
    """Return the name of the topic whose partitions stand for the application's tasks."""
    return application_id + TASKS_SUFFIX


@frozen
class Layout:
    """A topology laid out over the topics that exist.

    Attributes:
        sources: For each sub-topology, the topics it reads (names on the log) and their numbers of partitions.
        repartition: The application's repartition topics and their numbers of partitions.
        changelogs: Its changelog topics, with the stores they belong to and their numbers of partitions.
    """

    sources: Mapping[int, Mapping[str, int]]
    repartition: Mapping[str, int]
    changelogs: Mapping[str, tuple[StoreBuilder[object], int]]

    @property
    def tasks(self) -> tuple[TaskId, ...]:
        """The tasks, by sub-topology and partition."""
        return tuple(
            TaskId(sub_topology, partition)
            for sub_topology, topics in sorted(self.sources.items())
            for partition in range(max(topics.values(), default=0))
        )

    def partitions_of(self, task: TaskId) -> tuple[tuple[str, int], ...]:
        """Return the source partitions of a task: those of its number, of every topic that has as many."""
        topics = self.sources.get(task.sub_topology, {})
        return tuple((topic, task.partition) for topic, count in sorted(topics.items()) if task.partition < count)


def lay_out(sub_topologies: Sequence[SubTopology], application_id: str, existing: Mapping[str, int]) -> Layout:
    """Find out which topics are read and how large the internal ones have to be.

    A repartition topic gets the number the user fixed, the one it has already, that of its copartition group, or the
    largest of the topics whose records flow into it, in this order.

    Args:
        sub_topologies: Of the topology.
        application_id: Its application.
        existing: All topics of the log and their numbers of partitions.

    Raises:
        MissingSourceTopicError: Names every source topic that does not exist.
        TopologyError: Topics that must be copartitioned have different numbers of partitions.
        InvalidTopicError: An internal topic exists with another number than is needed.
    """
    internal = {topic.name: topic for part in sub_topologies for topic in part.repartition_topics}
    names = {name: internal_name(application_id, name) for name in internal}
    own = set(names.values()) | {tasks_topic(application_id)}
    own |= {changelog_name(application_id, store.name) for part in sub_topologies for store in part.stores}
    read = {part.id: topics_read(part, internal, existing, own) for part in sub_topologies}
    _check_existing(sub_topologies, internal, existing)

    counts = {topic: existing[topic] for topics in read.values() for topic in topics if topic not in internal}
    fixed = set(counts)
    for name, topic in internal.items():
        if topic.partitions is not None:
            counts[name] = topic.partitions
        elif names[name] in existing:
            counts[name] = existing[names[name]]
        if name in counts:
            fixed.add(name)
    _size(sub_topologies, read, counts, fixed, internal)

    sources = {part.id: {names.get(topic, topic): counts[topic] for topic in read[part.id]} for part in sub_topologies}
    layout = Layout(
        sources=sources,
        repartition={names[name]: counts[name] for name in internal},
        changelogs={
            changelog_name(application_id, store.name): (store, max(sources[part.id].values()))
            for part in sub_topologies
            for store in part.stores
            if store.logging and sources[part.id]
        },
    )
    _check_counts(layout, existing)
    return layout


def missing_sources(sub_topologies: Sequence[SubTopology], existing: Iterable[str]) -> list[str]:
    """Return the source topics that users have to make and that do not exist, sorted."""
    known = set(existing)
    internal = {topic.name for part in sub_topologies for topic in part.repartition_topics}
    return sorted({t for part in sub_topologies for t in part.source_topics if t not in internal and t not in known})


def topics_read(
    part: SubTopology, internal: Container[str], existing: Mapping[str, int], own: Container[str]
) -> list[str]:
    """Return the topics that a sub-topology reads: internal ones, and those of the others that exist.

    Args:
        part: The sub-topology.
        internal: Names of internal topics, without the application's id.
        existing: All topics of the log and their numbers of partitions.
        own: The application's topics on the log, which no pattern matches.
    """
    topics = [topic for topic in part.source_topics if topic in internal or topic in existing]
    for pattern in part.patterns:
        topics += [
            topic
            for topic in sorted(existing)
            if topic not in own and not topic.startswith("__") and topic not in topics and pattern.fullmatch(topic)
        ]
    return topics


def _check_existing(
    sub_topologies: Sequence[SubTopology], internal: Mapping[str, object], existing: Mapping[str, int]
) -> None:
    missing = missing_sources(sub_topologies, existing)
    if missing:
        readers = {
            topic: [node.name for part in sub_topologies for node in part.sources if topic in node.topics]
            for topic in missing
        }
        listed = ", ".join(f"{topic!r} (read by {', '.join(readers[topic])})" for topic in missing)
        raise MissingSourceTopicError(
            f"these source topics do not exist: {listed}. Create them "
            "(streamlet topics --create NAME -p PARTITIONS), then start again"
        )


def _size(
    sub_topologies: Sequence[SubTopology],
    read: Mapping[int, Sequence[str]],
    counts: dict[str, int],
    fixed: set[str],
    internal: Mapping[str, object],
) -> None:
    writers = {
        name: [part for part in sub_topologies if any(sink.topic == name for sink in part.sinks)] for name in internal
    }
    for _ in range(len(internal) + 1):  # each round settles at least one topic, or none is left to settle
        before = dict(counts)
        for name in internal:
            if name not in fixed:
                upstream = [counts[topic] for part in writers[name] for topic in read[part.id] if topic in counts]
                if upstream:
                    counts[name] = max(upstream)
        for part in sub_topologies:
            for group in part.copartition_groups:
                _copartition(group, counts, fixed)
        if counts == before and all(name in counts for name in internal):
            return
    unsized = sorted(name for name in internal if name not in counts)
    if unsized:
        raise TopologyError(
            f"the number of partitions of {', '.join(unsized)} does not follow from any source topic: "
            f"give it, repartition(partitions=...)"
        )


def _copartition(group: frozenset[str], counts: dict[str, int], fixed: set[str]) -> None:
    known = {topic: counts[topic] for topic in sorted(group) if topic in counts}
    settled = {topic: count for topic, count in known.items() if topic in fixed}
    if len(set(settled.values())) > 1:
        listed = ", ".join(f"{topic} has {count}" for topic, count in settled.items())
        raise TopologyError(
            f"topics that are joined or merged into one table need equal numbers of partitions, but {listed}: "
            f"repartition() one of the streams, or create the topics with equal numbers"
        )
    if known:
        target = max(settled.values() or known.values())
        for topic in group - fixed:
            counts[topic] = target


def _check_counts(layout: Layout, existing: Mapping[str, int]) -> None:
    needed = {**layout.repartition, **{topic: count for topic, (_, count) in layout.changelogs.items()}}
    for topic, count in needed.items():
        if existing.get(topic, count) != count:
            raise InvalidTopicError(
                f"internal topic {topic} has {existing[topic]} partitions, but the topology needs {count}: "
                f"keys would be looked for in other partitions than their state is in. Give the source topics "
                f"their old number of partitions, or reset the application (delete its internal topics and local "
                f"state), or use another application.id"
            )
