"""``merge.repartition.topics``: one repartition topic right behind a change of keys, in place of several further on.

As in Kafka Streams, the one topic has the name of the first that it replaces, and the nodes around it are called after
it. Unlike there, a topic is only replaced if *all* of its records come by the changed key, and pass only steps that
leave keys and values alone: what comes by another way would miss its repartitioning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from attrs import evolve, frozen

from streamlet.dsl.plan import ProcessorStep, Step
from streamlet.dsl.repartition import RepartitionStep
from streamlet.dsl.serde_flow import Lost, Serdes
from streamlet.dsl.stateless import Branch, DropNulls, Filter, FlatMap, Map, PassThrough, Peek, SelectKey

_CHANGE_KEYS = (Map, FlatMap, SelectKey)
_KEEP_RECORDS = (Filter, DropNulls, Peek, PassThrough, Branch)


@frozen(eq=False)
class MergedRepartition:
    """One repartition topic in place of others.

    Attributes:
        anchor: The step behind which it comes.
        step: What is written in their place.
        replaced: The repartitions that are not written.
        moved: Steps behind the anchor that now receive their records from the topic.
    """

    anchor: Step
    step: RepartitionStep
    replaced: frozenset[Step]
    moved: frozenset[Step]


def merge_repartitions(steps: Sequence[Step]) -> list[MergedRepartition]:
    """Find the repartitions that one topic can replace, in the order of the program."""
    found: dict[Step, list[RepartitionStep]] = {}
    for step in steps:
        if isinstance(step, RepartitionStep) and step.mergeable:
            changer = _one_parent_matching(step, _is_key_change)
            if changer is not None and _one_parent_matching(step, lambda s: not _keeps_records(s)) is changer:
                found.setdefault(changer, []).append(step)
    merges = [step for step in steps if _is_merge(step)]
    anchored: dict[Step, list[RepartitionStep]] = {}
    for changer, repartitions in found.items():
        common = [m for m in merges if all(_between(m, r) is not None for r in repartitions) and _reaches(m, changer)]
        anchored.setdefault(common[-1] if common else changer, []).extend(repartitions)
    result = []
    for anchor in sorted(anchored, key=steps.index):
        behind = {r: between for r in anchored[anchor] if (between := _between(anchor, r)) is not None}
        if behind:
            result.append(_merged(steps, anchor, behind))
    return result


def _merged(steps: Sequence[Step], anchor: Step, behind: dict[RepartitionStep, frozenset[Step]]) -> MergedRepartition:
    replaced = sorted(behind, key=steps.index)
    inner = frozenset[Step]().union(*behind.values())
    first = replaced[0]
    # what goes on from here without a repartition of its own must not miss the records without a key
    leaves = any(step not in inner and step not in behind and inner.intersection(step.parents) for step in steps)
    return MergedRepartition(
        anchor,
        first.in_place(anchor, _serdes(replaced), replaced, keeps_null_keys=leaves),
        frozenset(behind),
        frozenset(step for step in (*inner, *behind) if anchor in step.parents),
    )


def _serdes(repartitions: Iterable[RepartitionStep]) -> Serdes:
    """Return the first serde of keys and the first of values that are known."""
    first, *others = repartitions
    serdes = first.serdes
    for other in others:
        if isinstance(serdes.key, Lost) and not isinstance(other.serdes.key, Lost):
            serdes = evolve(serdes, key=other.serdes.key)
        if isinstance(serdes.value, Lost) and not isinstance(other.serdes.value, Lost):
            serdes = evolve(serdes, value=other.serdes.value)
    return serdes


def _between(anchor: Step, repartition: Step) -> frozenset[Step] | None:
    """Return the steps between the two; None if some of the records come by another way, or are changed on it."""
    between: set[Step] = set()
    open = list(repartition.parents)
    while open:
        step = open.pop()
        if step is anchor or step in between:
            continue
        if not step.parents or not _keeps_records(step):
            return None
        between.add(step)
        open += step.parents
    return frozenset(between)


def _reaches(step: Step, above: Step) -> bool:
    return any(parent is above or _reaches(parent, above) for parent in step.parents)


def _one_parent_matching(step: Step, matches: Callable[[Step], bool]) -> Step | None:
    """Return the nearest such step above in Kafka Streams' order of search: a parent before its own parents, and of
    several ways the last."""
    found: Step | None = None
    for parent in step.parents:
        if matches(parent):
            return parent
        found = _one_parent_matching(parent, matches)
    return found


def _operator(step: Step) -> object:
    return step.operator if isinstance(step, ProcessorStep) else None


def _is_key_change(step: Step) -> bool:
    return isinstance(_operator(step), _CHANGE_KEYS)


def _keeps_records(step: Step) -> bool:
    return isinstance(_operator(step), _KEEP_RECORDS)


def _is_merge(step: Step) -> bool:
    return isinstance(_operator(step), PassThrough) and len(step.parents) > 1
