"""The graph: what it refuses, and how it is cut into sub-topologies."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlet import Processor, Record, Stores, Topic, TopicPattern, Topology, TopologyError, serdes
from streamlet.topology import changelog_name, internal_name

S = serdes.string


class Idle(Processor[Any, Any]):
    def process(self, record: Record[Any, Any]) -> None: ...


SHARED = Idle()


def topic(name: str) -> Topic[str, str]:
    return Topic(name, S, S)


def test_parts_connected_by_a_store_are_one() -> None:
    store = Stores.key_value("store", S, S)
    topology = Topology()
    topology.add_source("a", topic("a")).add_processor("pa", Idle, "a")
    topology.add_source("b", topic("b")).add_processor("pb", Idle, "b")
    topology.add_source("c", topic("c")).add_processor("pc", Idle, "c")
    topology.add_state_store(store, "pa", "pc")
    first, second = topology.sub_topologies
    assert [node.name for node in first.nodes] == ["a", "pa", "c", "pc"]
    assert first.stores == (store,)
    assert first.source_topics == ("a", "c")
    assert [node.name for node in second.nodes] == ["b", "pb"]
    assert second.stores == ()


def test_stores_of_a_processor_come_along() -> None:
    store = Stores.key_value("store", S, S)

    class WithStore(Idle):
        stores = (store,)

    topology = Topology().add_source("a", topic("a")).add_processor("p", WithStore, "a")
    assert topology.sub_topologies[0].stores == (store,)
    topology.add_source("b", topic("b")).add_processor("q", lambda: WithStore(), "b")
    assert len(topology.sub_topologies) == 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda t: t.add_source("source", topic("x")), "there is already a node 'source'"),
        (lambda t: t.add_source("other", topic("in")), "topic 'in' is read by source 'source' already"),
        (lambda t: t.add_source("other", TopicPattern("i.*", S, S)), "topic 'in' is read by source 'source' already"),
        (lambda t: t.add_source("other", []), "needs at least one topic"),
        (lambda t: t.add_source("other", [topic("x"), Topic("y", S, serdes.int64)]), "different serdes"),
        (lambda t: t.add_source("other", [topic("x"), topic("x")]), "names a topic twice"),
        (lambda t: t.add_processor("p", Idle), "needs at least one parent"),
        (lambda t: t.add_processor("p", Idle, "nobody"), "parent 'nobody' does not exist"),
        (lambda t: t.add_processor("p", Idle, "source", "source"), "names a parent twice"),
        (lambda t: t.add_processor("p", Idle, "sink"), "parent 'sink' is a sink"),
        (lambda t: t.add_processor("p", Idle(), "source"), "needs a processor's class or a function"),
        (lambda t: t.add_processor("p", lambda: "no", "source"), "the supplier returned 'no'"),
        (lambda t: t.add_processor("p", lambda: SHARED, "source"), "the same processor twice"),
        (lambda t: t.add_sink("s", lambda k, v, r: "t", "source"), "needs key_serde and value_serde"),
        (lambda t: t.add_sink("s", topic("out"), "source", key_serde=S), "brings its serdes along"),
        (lambda t: t.add_sink("s", "out", "source"), "writes to a Topic"),
        (lambda t: t.add_processor("", Idle, "source"), "is no name for a node"),
        (lambda t: t.connect_processor_and_state_stores("p", "store"), "node 'p' does not exist"),
        (lambda t: t.connect_processor_and_state_stores("source", "store"), "node 'source' is not a processor"),
        (
            lambda t: t.add_processor("p", Idle, "source").connect_processor_and_state_stores("p", "store"),
            "store 'store' does not exist",
        ),
        (
            lambda t: t.add_state_store(Stores.key_value("s", S, S)).add_state_store(
                Stores.key_value("s", S, serdes.int64)
            ),
            "there is already another store 's'",
        ),
    ],
)
def test_refuses(build: Any, message: str) -> None:
    topology = Topology().add_source("source", topic("in")).add_sink("sink", topic("out"), "source")
    with pytest.raises(TopologyError, match=re.escape(message)):
        build(topology)


def test_internal_names() -> None:
    assert internal_name("app", "x-repartition") == "app-x-repartition"
    assert changelog_name("app", "counts") == "app-counts-changelog"


@given(st.data())
def test_sub_topologies_are_the_connected_components(data: st.DataObject) -> None:
    """Against a search over neighbours."""
    count = data.draw(st.integers(1, 15))
    topology = Topology()
    near: dict[str, set[str]] = {}
    names: list[str] = []
    for number in range(count):
        name = f"n{number}"
        parents = data.draw(st.sets(st.sampled_from(names), max_size=2)) if names else set()
        near[name] = set(parents)
        for parent in parents:
            near[parent].add(name)
        if parents:
            topology.add_processor(name, Idle, *sorted(parents))
        else:
            topology.add_source(name, topic(f"t{number}"))
        names.append(name)
    processors = [name for name in names if any(name == n.name and n.parents for n in topology.nodes)]
    for number in range(data.draw(st.integers(0, 3)) if processors else 0):
        users = data.draw(st.lists(st.sampled_from(processors), min_size=1, max_size=3, unique=True))
        topology.add_state_store(Stores.key_value(f"s{number}", S, S), *users)
        for user in users:
            near[user] |= set(users) - {user}

    def component(name: str) -> frozenset[str]:
        found, todo = {name}, [name]
        while todo:
            for other in near[todo.pop()] - found:
                found.add(other)
                todo.append(other)
        return frozenset(found)

    expected = list(dict.fromkeys(component(name) for name in names))  # in the order of their first nodes
    parts = topology.sub_topologies
    assert [frozenset(node.name for node in part.nodes) for part in parts] == expected
    assert [part.id for part in parts] == list(range(len(expected)))
    for part in parts:  # parents first
        seen: set[str] = set()
        for node in part.nodes:
            assert set(node.parents) <= seen
            seen.add(node.name)
