"""Whether a new version of a program can take up what the old one left: stores, repartition topics, tasks."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import Enum
from typing import TypeAlias

from attrs import frozen

from streamlet.errors import TopologyError
from streamlet.topology.graph import Topology
from streamlet.topology.naming import without_number
from streamlet.topology.shape import RepartitionShape, StoreShape, TopologyShape

_RESET = "or begin again with `streamlet reset`"


class Verdict(Enum):
    """What becomes of something."""

    SAME = "taken up as it is"
    RESTORED = "taken up by restoring it from its changelog"
    NEW = "begins empty"
    ADJUST = "taken up, if something outside of the program is adjusted"
    ACCEPTED = "not taken up, and that is accepted"
    RENAMED = "not found again: its name was made up, and is another one now"
    LOST = "not found again: it is no longer there"
    CHANGED = "cannot be read, or would be read wrongly: its type, windows or partitions are others"

    @property
    def is_compatible(self) -> bool:
        """Whether nothing is lost or read wrongly."""
        return self not in (Verdict.RENAMED, Verdict.LOST, Verdict.CHANGED)


@frozen
class Finding:
    """What becomes of one thing.

    Attributes:
        what: ``store``, ``repartition topic`` or ``sub-topology``.
        name: Its name, in the old version where it was there.
        verdict: What becomes of it.
        reason: Why.
        fix: What to do; empty if there is nothing to be done.
    """

    what: str
    name: str
    verdict: Verdict
    reason: str = ""
    fix: str = ""

    def __str__(self) -> str:
        text = f"{self.what} {self.name}: {self.verdict.name.lower()}"
        if self.reason:
            text += f": {self.reason}"
        return f"{text}. {self.fix}" if self.fix else text


@frozen
class Compatibility:
    """The result of a comparison.

    Attributes:
        findings: About each store, repartition topic and sub-topology, in this order.
        same_program: Whether instances of both versions may run side by side (a rolling upgrade).
    """

    findings: tuple[Finding, ...]
    same_program: bool

    @property
    def is_compatible(self) -> bool:
        """Whether the new version can take up all that the old one left."""
        return all(finding.verdict.is_compatible for finding in self.findings)


Version: TypeAlias = Topology | TopologyShape


def compatibility(old: Version, new: Version, *, accept: Collection[str] = ()) -> Compatibility:
    """Compare two versions of a program.

    Args:
        old: The one that has run so far.
        new: The one that is to take up what the old one left.
        accept: Names of stores and repartition topics of the old version whose loss or change is intended, for instance
            because a serde reads what another one wrote.

    Raises:
        TopologyError: If `accept` names what the old version has not.
    """
    before = old if isinstance(old, TopologyShape) else TopologyShape.of(old)
    after = new if isinstance(new, TopologyShape) else TopologyShape.of(new)
    findings = [*_stores(before, after), *_repartition_topics(before, after), *_parts(before, after)]
    known = {finding.name for finding in findings}
    unknown = sorted(set(accept) - known)
    if unknown:
        raise TopologyError(f"accepted, but not there: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return Compatibility(
        tuple(
            Finding(f.what, f.name, Verdict.ACCEPTED, f.reason)
            if f.name in accept and not f.verdict.is_compatible
            else f
            for f in findings
        ),
        before.fingerprint == after.fingerprint and all(finding.verdict is Verdict.SAME for finding in findings),
    )


# --- stores ---------------------------------------------------------------------------------------------------------


def _stores(before: TopologyShape, after: TopologyShape) -> Iterable[Finding]:
    old = {store.name: store for store in before.stores}
    new = {store.name: store for store in after.stores}
    gone = [store for name, store in old.items() if name not in new]
    come = [store for name, store in new.items() if name not in old]
    for name, store in old.items():
        if name in new:
            yield _store(store, new[name], before, after)
            continue
        successor = _successor(store, gone, come)
        if successor is not None:
            yield Finding(
                "store", name, Verdict.RENAMED, f"it is called {successor.name} now, for steps were added or removed",
                f"Name it after the old one, to keep what is in it: store={name!r} (of joins of streams and suppress: "
                f"see docs/operations.md); {_RESET}",
            )  # fmt: skip
        else:
            hint = (
                " (numbered stores of the new version may be others than their names tell)" if store.generated else ""
            )
            yield Finding(
                "store", name, Verdict.LOST, f"the new version has no store of this name{hint}",
                f"Give a store this name; if it is not needed any more, --accept {name} and delete its changelog; "
                f"{_RESET}",
            )  # fmt: skip
    taken = {successor.name for store in gone if (successor := _successor(store, gone, come)) is not None}
    for store in come:
        if store.name not in taken:
            yield Finding("store", store.name, Verdict.NEW, "the old version has no store of this name")


def _successor(store: StoreShape, gone: list[StoreShape], come: list[StoreShape]) -> StoreShape | None:
    """Return the store that a numbered store has become: they are paired in the order of their numbers."""
    if not store.generated:
        return None

    def alike(other: StoreShape) -> bool:
        return (
            other.generated
            and without_number(other.name) == without_number(store.name)
            and (other.kind, other.key_serde, other.value_serde, other.window_size_ms)
            == (store.kind, store.key_serde, store.value_serde, store.window_size_ms)
        )

    rank = [other.name for other in gone if alike(other)].index(store.name)
    candidates = [other for other in come if alike(other)]
    return candidates[rank] if rank < len(candidates) else None


def _store(old: StoreShape, new: StoreShape, before: TopologyShape, after: TopologyShape) -> Finding:
    def found(verdict: Verdict, reason: str = "", fix: str = "") -> Finding:
        return Finding("store", old.name, verdict, reason, fix)

    other_name = f"Keep it as it was, or give the new store another name (it begins empty); {_RESET}"
    differences = _differences(old, new)
    if differences:
        return found(Verdict.CHANGED, "; ".join(differences), other_name)
    partitions = _partitions(old.part, new.part, before, after)
    if partitions is not None and not partitions.verdict.is_compatible:
        return found(partitions.verdict, partitions.reason, other_name)
    if new.generated and _inputs(before, old.part) != _inputs(after, new.part):
        return found(
            Verdict.CHANGED,
            "its name was made up, and belongs to a step behind other topics now: "
            f"{', '.join(_inputs(before, old.part))} before, {', '.join(_inputs(after, new.part))} now",
            f"Name the stores, so that each finds its own state again (store=...); {_RESET}",
        )
    fresh = _rebuilt(old, new)
    if fresh and not (old.logging and new.logging):
        return found(Verdict.CHANGED, f"{'; '.join(fresh)}, and it has no changelog to be restored from", other_name)
    if old.logging and new.logging and (new.retention_ms or 0) > (old.retention_ms or 0):
        return found(
            Verdict.ADJUST,
            f"it keeps rows for {new.retention_ms} ms, which was {old.retention_ms} ms: its changelog keeps them for "
            f"the time before, and start refuses that",
            f"Raise retention.ms of the topic <application.id>-{old.name}-changelog with kafka-configs",
        )
    if partitions is not None:
        return found(partitions.verdict, partitions.reason, partitions.fix)
    return found(Verdict.RESTORED, "; ".join(fresh)) if fresh else found(Verdict.SAME)


def _differences(old: StoreShape, new: StoreShape) -> list[str]:
    """Say what makes the data unreadable, or readable wrongly."""
    found = []
    if old.changelog != new.changelog:
        found.append(f"it was a {old.kind} store, and is a {new.kind} store")
    for side, before, after in (
        ("keys", old.key_serde, new.key_serde),
        ("values", old.value_serde, new.value_serde),
    ):
        if before != after:
            found.append(
                f"its {side} were written by {before}, and are read by {after} "
                f"(--accept {old.name}, if that reads them all the same)"
            )
    if old.window_size_ms != new.window_size_ms:
        found.append(f"its windows were {old.window_size_ms} ms long, and are {new.window_size_ms} ms long")
    if old.retain_duplicates != new.retain_duplicates:
        found.append("it keeps several values of a key and time in one version only")
    if (old.retention_ms is None) != (new.retention_ms is None):
        found.append("it forgets rows in one version only")
    if old.logging != new.logging:
        found.append("it has a changelog now, which lacks what was there before" if new.logging else
                     "it has no changelog any more, so that what is in it stays on the machines it is on")  # fmt: skip
    return found


def _rebuilt(old: StoreShape, new: StoreShape) -> list[str]:
    """Say why local data is not used, so that the store is restored from its changelog."""
    found = []
    if old.part != new.part:
        found.append(f"its tasks were {old.part}_N, and are {new.part}_N")
    if old.kind != new.kind:
        found.append(f"it was a {old.kind} store, and is a {new.kind} store")
    if old.in_memory != new.in_memory:
        found.append("it was in memory" if old.in_memory else "it is in memory now")
    return found


# --- repartition topics and tasks -----------------------------------------------------------------------------------


def _repartition_topics(before: TopologyShape, after: TopologyShape) -> Iterable[Finding]:
    what = "repartition topic"
    old = {topic.name: topic for topic in before.repartition_topics}
    new = {topic.name: topic for topic in after.repartition_topics}
    drain = (
        "To take no loss, stop what writes the input, let the old version read all of it, then stop it and "
        "--accept {name}; {reset}"
    )
    for name, topic in old.items():
        fix = drain.format(name=name, reset=_RESET)
        if name in new:
            yield _repartition_topic(topic, new[name], fix)
        elif topic.generated and any(
            other.generated and other.name not in old and without_number(other.name) == without_number(name)
            for other in new.values()
        ):
            yield Finding(
                what, name, Verdict.RENAMED, "its name was made up, and steps were added or removed: records in it "
                "that were not read yet would stay unread",
                f"Name it after the old one: name={name.removesuffix('-repartition')!r}. {fix}",
            )  # fmt: skip
        else:
            yield Finding(
                what, name, Verdict.LOST, "the new version does not read it: records in it that were not read yet "
                "would stay unread", fix,
            )  # fmt: skip
    for name in new:
        if name not in old:
            yield Finding(what, name, Verdict.NEW)


def _repartition_topic(old: RepartitionShape, new: RepartitionShape, fix: str) -> Finding:
    found = [
        f"its {side} were written by {before}, and are read by {after}"
        for side, before, after in (
            ("keys", old.key_serde, new.key_serde),
            ("values", old.value_serde, new.value_serde),
        )
        if before != after
    ]
    if new.partitions is not None and old.partitions is not None and old.partitions != new.partitions:
        found.append(f"it had {old.partitions} partitions, and is to have {new.partitions}")
        fix = f"Keep the number, or give the topic another name; {_RESET}"
    if found:
        return Finding("repartition topic", old.name, Verdict.CHANGED, "; ".join(found), fix)
    if new.partitions != old.partitions and new.partitions is not None:
        return Finding(
            "repartition topic", old.name, Verdict.ADJUST,
            f"its number of partitions followed from its input, and is fixed to {new.partitions}",
            "The number must be the one that it has; otherwise start refuses it",
        )  # fmt: skip
    return Finding("repartition topic", old.name, Verdict.SAME)


def _inputs(shape: TopologyShape, part: int) -> tuple[str, ...]:
    return next(each.inputs for each in shape.parts if each.id == part)


def _partitions(old: int, new: int, before: TopologyShape, after: TopologyShape) -> Finding | None:
    """Say how the number of a store's partitions has changed; None if it has not."""
    was, is_ = _inputs(before, old), _inputs(after, new)
    if was == is_:
        return None
    sizes = [_size(inputs) for inputs in (was, is_)]
    if None not in sizes:
        if sizes[0] == sizes[1]:
            return None
        return Finding("store", "", Verdict.CHANGED, f"it had {sizes[0]} partitions, and is to have {sizes[1]}")
    return Finding(
        "store", "", Verdict.ADJUST,
        f"the number of its partitions follows from {', '.join(is_)}, where it followed from {', '.join(was)}",
        "The largest of the new topics must have as many partitions as that of the old ones had; otherwise start "
        "refuses it",
    )  # fmt: skip


def _size(inputs: tuple[str, ...]) -> int | None:
    """Return the number of partitions, if the program fixes it."""
    numbers = [int(each.removeprefix("partitions:")) for each in inputs if each.startswith("partitions:")]
    return max(numbers) if numbers and len(numbers) == len(inputs) else None


def _parts(before: TopologyShape, after: TopologyShape) -> Iterable[Finding]:
    """Compare the numbering of tasks: by the stores and the topics of each sub-topology."""
    for part in before.parts:
        stores = {store.name for store in before.stores if store.part == part.id}
        heirs = {store.part for store in after.stores if store.name in stores}
        heirs |= {other.id for other in after.parts if set(other.reads) & set(part.reads)}
        if not heirs:  # what it reads may have another number now, which is said of the topic
            stems = set(map(without_number, part.reads))
            heirs = {other.id for other in after.parts if stems & set(map(without_number, other.reads))}
        name = str(part.id)
        if heirs == {part.id}:
            yield Finding("sub-topology", name, Verdict.SAME)
        elif not heirs:
            yield Finding(
                "sub-topology", name, Verdict.ADJUST, f"nothing reads {', '.join(part.reads)} any more",
                "If a later version reads them again, it goes on at the offsets committed by this one",
            )  # fmt: skip
        else:
            numbers = ", ".join(map(str, sorted(heirs)))
            yield Finding(
                "sub-topology", name, Verdict.RESTORED,
                f"it is number {numbers} now, and so are its tasks: what lies on the machines under the old numbers "
                f"is not used",
            )  # fmt: skip
    known = {part.id for part in before.parts}
    for part in after.parts:
        if part.id not in known:
            yield Finding("sub-topology", str(part.id), Verdict.NEW)
