"""How serdes flow, and what is said when they are missing."""

from __future__ import annotations

import pytest

from streamlet import Materialized, StreamsBuilder, Topic, TopologyError, serdes

LINES = Topic("lines", serdes.string, serdes.string)


def test_all_missing_serdes_are_listed_at_once_with_what_to_pass() -> None:
    builder = StreamsBuilder()
    words = builder.stream(LINES).flat_map_values(str.split)
    words.group_by(lambda k, v: v).count(store="counts")
    words.group_by_key().aggregate(list, lambda k, v, a: [*a, v], store="all")
    words.map(lambda k, v: (v, k)).to(lambda k, v, origin: v)
    words.map(lambda k, v: (v, k)).repartition(name="by-word")
    with pytest.raises(TopologyError) as caught:
        builder.build()
    faults = str(caught.value).splitlines()
    assert faults[0] == "serdes are missing:"
    expected = [
        ("counts-repartition-sink", "keys", "KSTREAM-KEY-SELECT-0000000002", "group_by(key_serde=...)"),
        ("counts-repartition-sink", "values", "KSTREAM-FLATMAPVALUES-0000000001", "group_by(value_serde=...)"),
        ("KSTREAM-AGGREGATE-0000000003", "keys", "KSTREAM-KEY-SELECT-0000000002", "group_by(key_serde=...)"),
        (
            "KSTREAM-AGGREGATE-0000000007",
            "values",
            "KSTREAM-AGGREGATE-0000000007",
            "store=Materialized(value_serde=...)",
        ),
        ("KSTREAM-SINK-0000000009", "keys", "KSTREAM-MAP-0000000008", "to(key_serde=...)"),
        ("KSTREAM-SINK-0000000009", "values", "KSTREAM-MAP-0000000008", "to(value_serde=...)"),
        ("by-word-repartition-sink", "keys", "KSTREAM-MAP-0000000010", "repartition(key_serde=...)"),
        ("by-word-repartition-sink", "values", "KSTREAM-MAP-0000000010", "repartition(value_serde=...)"),
    ]
    assert len(faults) - 1 == len(expected), faults
    for fault, (node, side, lost, ask) in zip(faults[1:], expected, strict=True):
        assert fault.startswith(f"- {node} needs a serde for its {side}, lost at {lost}"), fault
        assert ask in fault


def test_defaults_fill_in() -> None:
    builder = StreamsBuilder(default_key_serde=serdes.string, default_value_serde=serdes.json)
    builder.stream(LINES).map(lambda k, v: (v, [k])).group_by_key().reduce(lambda a, v: a + v, store="all")
    (store,) = builder.build().stores
    assert store.key_serde is serdes.string
    assert store.value_serde is serdes.json


def test_serdes_are_inherited_where_a_side_is_left_alone() -> None:
    builder = StreamsBuilder()
    stream = builder.stream(LINES)
    assert stream.filter(bool).peek(print).serdes == stream.serdes
    assert stream.map_values(len).serdes.key is serdes.string
    assert stream.select_key(lambda k, v: 1).serdes.value is serdes.string
    assert stream.merge(stream.filter(bool)).serdes == stream.serdes
    stream.group_by_key().count(store="counts")
    stream.group_by_key().reduce(max, store="longest")
    stream.group_by(lambda k, v: len(v), key_serde=serdes.int64).count(
        store=Materialized("small", value_serde=serdes.int32)
    )
    stores = {store.name: store for store in builder.build().stores}
    assert (stores["counts"].key_serde, stores["counts"].value_serde) == (serdes.string, serdes.int64)
    assert (stores["longest"].key_serde, stores["longest"].value_serde) == (serdes.string, serdes.string)
    assert (stores["small"].key_serde, stores["small"].value_serde) == (serdes.int64, serdes.int32)


def test_merging_different_serdes_loses_them() -> None:
    builder = StreamsBuilder()
    merged = builder.stream(LINES).merge(builder.stream(Topic("numbers", serdes.string, serdes.int64)))
    merged.group_by_key().reduce(lambda a, v: v, store="last")
    with pytest.raises(
        TopologyError, match=r"lost at KSTREAM-MERGE-0000000002, which merges streams with different serdes"
    ):
        builder.build()


def test_options_are_checked() -> None:
    from datetime import timedelta

    grouped = StreamsBuilder().stream(LINES).group_by_key()
    with pytest.raises(TopologyError, match="retention is for windowed stores"):
        grouped.count(store=Materialized("n", retention=timedelta(days=1)))
    with pytest.raises(TopologyError, match="takes a name or Materialized"):
        grouped.count(store=3)  # type: ignore[arg-type]
    with pytest.raises(TopologyError, match="not a legal name"):
        Materialized("no good")
