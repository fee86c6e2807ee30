"""Names that were made up are found, and the argument that is named gives them a name."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from streamlet import JoinWindows, Materialized, StreamsBuilder, Suppressed, TimeWindows, Topic, serdes
from streamlet.errors import ConfigError, TopologyError
from streamlet.runtime.streams import KafkaStreams
from streamlet.testing import TopologyTestDriver
from streamlet.topology.naming import is_generated, unnamed, without_number

ONE = Topic("one", serdes.string, serdes.string)
TWO = Topic("two", serdes.string, serdes.string)
STRICT = {"ensure.explicit.internal.resource.naming": True}
WITHIN = JoinWindows.of_time_difference(timedelta(seconds=1), grace=timedelta(0))
PER_MINUTE = TimeWindows.of_size(timedelta(minutes=1), grace=timedelta(0))

Program = Callable[[StreamsBuilder], Any]


def keyed(builder: StreamsBuilder, topic: Topic[str, str] = ONE) -> Any:
    return builder.stream(topic).select_key(lambda _, value: value)


def extractor(value: str) -> str:
    return value


def first(value: Any, _: Any) -> Any:
    return value


def pair(key: str, value: str) -> tuple[str, str]:
    return value, key


S = serdes.string

# unnamed, what is said of it, and the same with names
PROGRAMS: list[tuple[str, Program, list[str], Program]] = [
    (
        "count",
        lambda b: b.stream(ONE).group_by(first, key_serde=S).count(),
        ["group_by(..., name=...)", "count(store=...)"],
        lambda b: b.stream(ONE).group_by(first, key_serde=S, name="by-word").count(store="counts"),
    ),
    (
        "reduce of windows",
        lambda b: b.stream(ONE).group_by_key().windowed_by(PER_MINUTE).reduce(first),
        ["reduce(..., store=...)"],
        lambda b: b.stream(ONE).group_by_key().windowed_by(PER_MINUTE).reduce(first, store="firsts"),
    ),
    (
        "repartition",
        lambda b: b.stream(ONE).repartition().foreach(first),
        ["repartition(name=...)"],
        lambda b: b.stream(ONE).repartition(name="again").foreach(first),
    ),
    (
        "to_table",
        lambda b: keyed(b).to_table(store=Materialized(value_serde=S)).join(b.table(TWO, store="two"), first),
        ["to_table(name=...)", "to_table(store=...)"],
        lambda b: keyed(b).to_table(store="table", name="as-table").join(b.table(TWO, store="two"), first),
    ),
    (
        "a join of tables that are read",
        lambda b: b.table(ONE).join(b.table(TWO), first),
        ["table(topic, store=...)", "table(topic, store=...)"],
        lambda b: b.table(ONE, store="one").join(b.table(TWO, store="two"), first),
    ),
    (
        "a join of streams",
        lambda b: b.stream(ONE).left_join(b.stream(TWO), first, WITHIN),
        ["join(..., store_name=...)"] * 3,
        lambda b: b.stream(ONE).left_join(b.stream(TWO), first, WITHIN, store_name="joined"),
    ),
    (
        "a foreign-key join",
        lambda b: b.table(ONE, store="one").join(b.table(TWO, store="two"), extractor, first),
        ["join(..., name=...)"] * 3,
        lambda b: b.table(ONE, store="one").join(
            b.table(TWO, store="two"), extractor, first, name="related", store=Materialized("related", value_serde=S)
        ),
    ),
    (
        "a grouped table",
        lambda b: b.table(ONE, store="one").group_by(pair, key_serde=S, value_serde=S).count(),
        ["group_by(..., name=...)", "count(store=...)"],
        lambda b: b.table(ONE, store="one").group_by(pair, key_serde=S, value_serde=S, name="by").count(store="counts"),
    ),
    (
        "suppress",
        lambda b: b.table(ONE, store="one").suppress(Suppressed.until_time_limit(timedelta(seconds=1))),
        ["suppress(..., name=...)"],
        lambda b: b.table(ONE, store="one").suppress(
            Suppressed.until_time_limit(timedelta(seconds=1)), name="quiet"
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("program", "arguments", "named"), [p[1:] for p in PROGRAMS], ids=[p[0] for p in PROGRAMS])
def test_each_missing_name_is_listed_with_the_argument_to_pass(
    program: Program, arguments: list[str], named: Program
) -> None:
    builder = StreamsBuilder(default_key_serde=serdes.string)
    program(builder)
    loose = builder.build()
    found = unnamed(loose)
    for argument in set(arguments):
        assert sum(argument in each.argument for each in found) >= arguments.count(argument), found
    assert len(found) == len(arguments), found
    stores = {store.name for store in loose.stores}
    for each in found:
        assert each.name in stores or loose.is_internal(each.name)
        assert each.node in {node.name for node in loose.nodes}

    with pytest.raises(TopologyError) as refused:
        builder.build(STRICT)
    for each in found:
        assert str(each) in str(refused.value)
    with pytest.raises(TopologyError, match="have no name of their own"):
        KafkaStreams(loose, {"application.id": "app", "bootstrap.servers": "embedded:", **STRICT})
    with pytest.raises(TopologyError, match="have no name of their own"):
        TopologyTestDriver(loose, STRICT)

    builder = StreamsBuilder(default_key_serde=serdes.string)
    named(builder)
    strict = builder.build(STRICT)
    assert unnamed(strict) == ()
    TopologyTestDriver(strict, STRICT).close()


def test_a_stream_without_state_needs_no_names() -> None:
    builder = StreamsBuilder(default_key_serde=serdes.string)
    builder.stream(ONE).map_values(str.upper).to(TWO)
    builder.build(STRICT)


def test_the_name_of_an_earlier_version_may_be_given() -> None:
    """Who begins to name things keeps what is there by giving it the very name that was made up."""
    builder = StreamsBuilder(default_key_serde=serdes.string)
    builder.stream(ONE).group_by_key().count()
    (made_up,) = unnamed(builder.build())
    builder = StreamsBuilder(default_key_serde=serdes.string)
    builder.stream(ONE).group_by_key().count(store=made_up.name)
    assert [store.name for store in builder.build(STRICT).stores] == [made_up.name]


@pytest.mark.parametrize(
    ("name", "stripped"),
    [
        ("KSTREAM-AGGREGATE-STATE-STORE-0000000003-repartition", "KSTREAM-AGGREGATE-STATE-STORE--repartition"),
        ("lines-STATE-STORE-0000000001", "lines-STATE-STORE-"),
        ("KSTREAM-OUTERSHARED-0000000005-store", "KSTREAM-OUTERSHARED--store"),
        ("orders-0000000005", "orders-0000000005"),
        ("counts", "counts"),
    ],
)
def test_the_number_in_a_name(name: str, stripped: str) -> None:
    assert without_number(name) == stripped
    assert is_generated(name, {name.removesuffix("-repartition").removesuffix("-store")}) is (name != stripped)
    assert not is_generated(name, ())


def test_a_switch_is_on_or_off() -> None:
    builder = StreamsBuilder(default_key_serde=serdes.string)
    builder.stream(ONE).group_by_key().count()
    builder.build({"ensure.explicit.internal.resource.naming": "false"})
    with pytest.raises(ConfigError, match="must be true or false, not 'maybe'"):
        builder.build({"ensure.explicit.internal.resource.naming": "maybe"})
