"""The text of `describe()`, against all recordings without global stores, and its pictures."""

from __future__ import annotations

import re
from typing import Any

from attrs import frozen
from hypothesis import given
from hypothesis import strategies as st

from streamlet import Stores, Topic, Topology, serdes
from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.topology.java_order import TreeSet, hash_order, string_hash
from streamlet.topology.nodes import ProcessorNode, SinkNode, SourceNode
from tests.topology.recordings import recordings

BYTES = serdes.bytes_


@frozen
class Pass(Operator):
    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        return forward


def rebuild(text: str) -> Topology:
    """Read a description back into a topology, parents before children."""
    nodes: dict[str, tuple[str, str, list[str]]] = {}
    name = ""
    for line in text.splitlines():
        if match := re.match(r"    (Source|Processor|Sink): (\S+) \((.*)\)$", line):
            name = match[2]
            nodes[name] = (match[1], match[3], [])
        elif match := re.match(r"      <-- (.*)", line):
            nodes[name] = (*nodes[name][:2], match[1].split(", "))
    topology = Topology()

    def by_number(name: str) -> tuple[str, str]:  # in the order in which joins and merges name their parents
        return name.replace("THIS", "A").replace("OTHER", "B").split("-")[-1], name

    def add(name: str) -> None:
        if any(node.name == name for node in topology.nodes):
            return
        kind, what, listed = nodes[name]
        parents = tuple(sorted(listed, key=by_number))
        for parent in parents:
            add(parent)
        match kind:
            case "Source":
                topics = re.match(r"topics: \[(.*)\]$", what)
                names = tuple(topics[1].split(", ")) if topics else ()
                pattern = None if topics else re.compile(what.removeprefix("topics: "))
                topology.add_node(SourceNode(name, names, pattern, BYTES, BYTES))
            case "Sink":
                topology.add_node(SinkNode(name, parents, what.removeprefix("topic: "), None, BYTES, BYTES))
            case _:
                topology.add_node(ProcessorNode(name, Pass(), parents))
                for store in filter(None, what.removeprefix("stores: [").removesuffix("]").split(", ")):
                    topology.add_state_store(Stores.key_value(store, BYTES, BYTES), name)

    for name in nodes:
        add(name)
    return topology


def test_all_recorded_texts_without_global_stores() -> None:
    texts = [case["describe"] for case in recordings() if "global store" not in case["describe"]]
    # one sink names its parents in another order than their numbers: by hand
    odd = [text for text in texts if "<-- source-topic-\\d-processor, source-topic-[A-Z]-processor" in text]
    assert len(odd) == 1
    different = [text for text in texts if text not in odd and str(rebuild(text).describe()) != text]
    assert not different, different[0]
    assert len(texts) == 150


def test_string_hash_is_java_s() -> None:
    assert string_hash("") == 0
    assert string_hash("hello") == 99162322
    assert (
        string_hash("streamlet topology")
        == sum(ord(c) * 31 ** (len("streamlet topology") - 1 - i) for i, c in enumerate("streamlet topology")) % 2**32
    )


def test_hash_order_of_stores() -> None:
    # recorded in TopologyTestDriverTest.shouldReturnAllStores
    stores = ["keyValueStore", "keyValueTimestampStore", "windowStore", "windowTimestampStore", "sessionStore"]
    assert hash_order(stores) == [
        "sessionStore", "keyValueStore", "windowStore", "keyValueTimestampStore", "windowTimestampStore",
    ]  # fmt: skip


@given(st.lists(st.integers()))
def test_tree_set_sorts_if_the_order_stays(numbers: list[int]) -> None:
    tree: TreeSet[int] = TreeSet(lambda one, other: (one > other) - (one < other))
    for number in numbers:
        tree.add(number)
    assert list(tree) == sorted(set(numbers))
    assert len(tree) == len(set(numbers))


def word_count() -> Topology:
    from streamlet import StreamsBuilder

    builder = StreamsBuilder()
    lines = Topic("lines", serdes.string, serdes.string)
    words = builder.stream(lines).flat_map_values(str.split)
    counts = words.group_by(lambda _, word: word, key_serde=serdes.string, value_serde=serdes.string).count(
        store="counts"
    )
    counts.to_stream().to(Topic("word-counts", serdes.string, serdes.int64))
    return builder.build()


def test_mermaid_and_dot_name_everything_once() -> None:
    description = word_count().describe()
    names = [described.node.name for part in description.sub_topologies for described in part.nodes]
    for text in (description.mermaid(), description.dot()):
        for name in [*names, "counts", "lines", "word-counts", "counts-repartition"]:
            assert text.count(f'"{name}"') == 1, name
    assert description.mermaid().startswith("flowchart TD\n")
    assert description.dot().count("{") == description.dot().count("}")


def test_extractor_of_topics_is_named() -> None:
    def topic_of(key: Any, value: Any, origin: Any) -> str:
        return "out"

    topology = Topology().add_source("source", Topic("in", BYTES, BYTES))
    topology.add_sink("sink", topic_of, "source", key_serde=BYTES, value_serde=BYTES)
    assert "Sink: sink (extractor class: test_extractor_of_topics_is_named.<locals>.topic_of)" in str(
        topology.describe()
    )


def test_notebooks_get_all_forms() -> None:
    bundle = word_count().describe()._repr_mimebundle_()
    assert set(bundle) == {"text/vnd.mermaid", "text/html", "text/plain"}
    assert "--&gt; counts-repartition-filter" in bundle["text/html"]


def test_fingerprint_is_stable_and_tells_topologies_apart() -> None:
    assert word_count().fingerprint() == word_count().fingerprint()
    other = Topology().add_source("source", Topic("in", BYTES, BYTES))
    assert other.fingerprint() != word_count().fingerprint()
