"""What of a topology outlives the program: stores, repartition topics, the numbering of tasks; as data to be saved."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Self

import attrs
from attrs import frozen

from streamlet.errors import TopologyError
from streamlet.topology.naming import is_generated

if TYPE_CHECKING:
    from streamlet.serdes import Serde
    from streamlet.topology.graph import SubTopology, Topology

_FORMAT = 1
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


@frozen(kw_only=True)
class StoreShape:
    """A store.

    Attributes:
        name: Its name.
        generated: Whether the library made it up.
        part: Number of its sub-topology.
        kind: What kind of store.
        changelog: What its changelog looks like; kinds that agree here can be rebuilt from each other's.
        key_serde: Of its keys, in words.
        value_serde: Of its values, in words.
        logging: Whether it has a changelog.
        in_memory: Whether it is in memory only.
        retention_ms: How long entries are kept, None for ever.
        window_size_ms: Length of its windows.
        retain_duplicates: Whether it keeps all values of a key and time.
    """

    name: str
    generated: bool
    part: int
    kind: str
    changelog: str
    key_serde: str
    value_serde: str
    logging: bool
    in_memory: bool
    retention_ms: int | None
    window_size_ms: int
    retain_duplicates: bool


@frozen(kw_only=True)
class RepartitionShape:
    """A repartition topic.

    Attributes:
        name: Its name, without the application's id.
        generated: Whether the library made it up.
        partitions: Their number if the program fixes it.
        key_serde: Of its keys, in words.
        value_serde: Of its values, in words.
    """

    name: str
    generated: bool
    partitions: int | None
    key_serde: str
    value_serde: str


@frozen(kw_only=True)
class PartShape:
    """A sub-topology, whose number is the first half of the ids of its tasks.

    Attributes:
        id: Its number.
        inputs: Topics (also ``pattern:…``) from which the number of its tasks follows, sorted: those it reads, and in
            place of a repartition topic those whose records flow into it, or ``partitions:N`` where it is fixed.
        reads: What it reads itself, sorted.
    """

    id: int
    inputs: tuple[str, ...]
    reads: tuple[str, ...]


@frozen(kw_only=True)
class TopologyShape:
    """A topology, as far as state is concerned. Global stores are not in it: their topics are their state.

    Attributes:
        fingerprint: Of the topology: members of a group must all have the same.
        stores: Its stores, by name.
        repartition_topics: Its repartition topics, by name.
        parts: Its sub-topologies, by number.
    """

    fingerprint: str
    stores: tuple[StoreShape, ...]
    repartition_topics: tuple[RepartitionShape, ...]
    parts: tuple[PartShape, ...]

    @classmethod
    def of(cls, topology: Topology) -> Self:
        """Return the shape of a topology."""
        parts = topology.sub_topologies
        return cls(
            fingerprint=topology.fingerprint(),
            stores=tuple(
                sorted((_store(topology, part, s) for part in parts for s in part.stores), key=lambda shape: shape.name)
            ),
            repartition_topics=tuple(
                sorted(_repartition_topics(topology, parts), key=lambda shape: shape.name),
            ),
            parts=tuple(
                PartShape(id=part.id, inputs=tuple(sorted(_inputs(part, parts, set()))), reads=_reads(part))
                for part in parts
            ),
        )

    def to_json(self) -> str:
        """Return the text that `from_json` reads."""
        return json.dumps({"format": _FORMAT, **attrs.asdict(self)}, indent=2, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the shape that was saved.

        Raises:
            TopologyError: It is no such text, or of a later version.
        """
        try:
            data: dict[str, Any] = json.loads(text)
            format = data.pop("format")
            if format != _FORMAT:
                raise TopologyError(
                    f"the description has format {format}, this version of streamlet reads {_FORMAT}: upgrade"
                )
            return cls(
                fingerprint=data["fingerprint"],
                stores=tuple(StoreShape(**each) for each in data["stores"]),
                repartition_topics=tuple(RepartitionShape(**each) for each in data["repartition_topics"]),
                parts=tuple(
                    PartShape(id=each["id"], inputs=tuple(each["inputs"]), reads=tuple(each["reads"]))
                    for each in data["parts"]
                ),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TopologyError(
                f"this is no saved description ({type(error).__name__}: {error}): make one with "
                f"`streamlet describe --format json MODULE:TOPOLOGY`"
            ) from error


def _store(topology: Topology, part: SubTopology, store: Any) -> StoreShape:
    return StoreShape(
        name=store.name,
        generated=is_generated(store.name, topology.generated),
        part=part.id,
        kind=store.kind.value,
        changelog=store.kind.changelog,
        key_serde=_words(store.key_serde),
        value_serde=_words(store.value_serde),
        logging=store.logging,
        in_memory=store.in_memory,
        retention_ms=store.retention_ms,
        window_size_ms=store.window_size_ms,
        retain_duplicates=store.retain_duplicates,
    )


def _repartition_topics(topology: Topology, parts: tuple[SubTopology, ...]) -> list[RepartitionShape]:
    return [
        RepartitionShape(
            name=topic.name,
            generated=is_generated(topic.name, topology.generated),
            partitions=topic.partitions,
            key_serde=_words(source.key_serde),
            value_serde=_words(source.value_serde),
        )
        for part in parts
        for topic in part.repartition_topics
        for source in part.sources
        if topic.name in source.topics
    ]


def _reads(part: SubTopology) -> tuple[str, ...]:
    return tuple(sorted((*part.source_topics, *(f"pattern:{pattern.pattern}" for pattern in part.patterns))))


def _inputs(part: SubTopology, parts: tuple[SubTopology, ...], seen: set[int]) -> set[str]:
    """Follow repartition topics back to where their number of partitions comes from."""
    if part.id in seen:
        return set()
    seen.add(part.id)
    internal = {topic.name: topic for topic in part.repartition_topics}
    found = {name for name in _reads(part) if name not in internal}
    for topic in internal.values():
        if topic.partitions is not None:
            found.add(f"partitions:{topic.partitions}")
            continue
        for writer in parts:
            if any(sink.topic == topic.name for sink in writer.sinks):
                found |= _inputs(writer, parts, seen)
    return found


def _words(serde: Serde[Any]) -> str:
    """Say what a serde is; the same in every process."""
    text = repr(serde)
    if _ADDRESS.search(text) is None:
        return text
    kind = type(serde)
    return f"{kind.__module__}.{kind.__qualname__}"
