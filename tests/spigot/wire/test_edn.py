"""EDN: read and written as Clojure does it, whatever the text."""

from __future__ import annotations

import math
from collections import OrderedDict, namedtuple
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction
from types import MappingProxyType
from typing import Any
from uuid import UUID

import edn_format
import pytest
from edn_format.immutable_list import ImmutableList
from hypothesis import given
from hypothesis import strategies as st

from spigot_topologies.errors import WireError, show
from spigot_topologies.values import Char, FrozenMap, Keyword, Symbol, Tagged, Vector, codec, tagged
from spigot_topologies.values.tagged import CROWD, MAX_DEPTH, MAX_DIGITS, build_map, build_set
from spigot_topologies.wire import edn
from tests.spigot.wire.samples import load_samples, names, same, values

K, S = Keyword, Symbol


READ: list[tuple[str, Any]] = [
    ("nil", None),
    ("[true false]", [True, False]),
    ("0 ", 0),
    ("-7", -7),
    ("+7", 7),
    ("123N", 123),
    ("123456789012345678901234567890", 123456789012345678901234567890),
    ("0x1F", 31),
    ("-017", -15),
    ("36rZ", 35),
    ("1.", 1.0),
    ("-1.5e-3", -0.0015),
    ("1e999", math.inf),
    ("1.50M", Decimal("1.50")),
    ("1M", Decimal(1)),
    ("1/3", Fraction(1, 3)),
    ("-2/4", Fraction(-1, 2)),
    ("4/2", 2),
    ("##Inf", math.inf),
    ("##-Inf", -math.inf),
    (":a", K("a")),
    (":a.b/c", K("a.b/c")),
    (":1", K("1")),
    ("a.b/c", S("a.b/c")),
    ("/", S("/")),
    ("+", S("+")),
    ("-a", S("-a")),
    ("a'b#c", S("a'b#c")),
    ("nilly", S("nilly")),
    ("spigot.id:249df866-cddd-4804-b501-45104956ff40/?r", S("spigot.id:249df866-cddd-4804-b501-45104956ff40/?r")),
    (r"\a", Char("a")),
    (r"\newline", Char("\n")),
    (r"\u00e9", Char("é")),
    (r"\o101", Char("A")),
    (r"\(", Char("(")),
    (r"[\a\b]", [Char("a"), Char("b")]),
    (r'"q\"b\\s\ttab\nnl é ☃"', 'q"b\\s\ttab\nnl é ☃'),
    (r'"\u0041\102"', "AB"),
    (r'"\ud83d\ude00"', "😀"),
    ('"a;b"', "a;b"),
    ("()", ()),
    ("[1 (2 [3])]", [1, (2, [3])]),
    ("[1,,2]", [1, 2]),
    ("{}", {}),
    ("{:a 1, b \\c}", {K("a"): 1, S("b"): Char("c")}),
    ("{[1 2] :v}", {Vector([1, 2]): K("v")}),
    ("{{:a [1]} :m}", {FrozenMap({K("a"): Vector([1])}): K("m")}),
    ("#{}", frozenset()),
    ("#{1 (2) [3]}", frozenset({1, (2,), Vector([3])})),
    ("#:s{:a 1, :_/b 2, c 3, :x/d 4, _/e 5, 6 7}", {K("s/a"): 1, K("b"): 2, S("s/c"): 3, K("x/d"): 4, S("e"): 5, 6: 7}),
    ("#:s {:a 1}", {K("s/a"): 1}),
    ("#:s{:a #:t{:b 1}}", {K("s/a"): {K("t/b"): 1}}),
    ('#uuid "00000000-0000-4000-8000-00000000000A"', UUID(int=0x4000800000000000000A)),
    ('#uuid"00000000-0000-4000-8000-00000000000a"', UUID(int=0x4000800000000000000A)),
    ('#uuid #_ 1 ; really\n "00000000-0000-4000-8000-00000000000a"', UUID(int=0x4000800000000000000A)),
    ('#inst "2026-01-02T03:04:05.678-00:00"', datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)),
    (
        '#inst "2026-01-02T03:04:05.123456789+02:00"',
        datetime(2026, 1, 2, 3, 4, 5, 123456, timezone(timedelta(hours=2))),
    ),
    ('#inst "2026"', datetime(2026, 1, 1, tzinfo=UTC)),
    ("#my/tag [1]", Tagged("my/tag", [1])),
    ("#a #b 1", Tagged("a", Tagged("b", 1))),
    ("#a {#b 1 #c 2}", Tagged("a", {Tagged("b", 1): Tagged("c", 2)})),
    ("[1 #_ 2 3]", [1, 3]),
    ("[#_ #_ 1 2 3]", [3]),
    ("[#_#a 1 2]", [2]),
    ("{:a #_ :b 1}", {K("a"): 1}),
    ("#_ 1 2 #_ 3", 2),
    ("; comment\n 1 ; another", 1),
    ("\u2003[1\u20282]", [1, 2]),
]


@pytest.mark.parametrize(("text", "value"), READ, ids=[text for text, _ in READ])
def test_reads(text: str, value: Any) -> None:
    assert same(edn.loads(text), value)
    assert same(edn.loads(text.encode()), value)


REFUSED = [
    ("", "no value", 0),
    (" ; nothing", "no value", 10),
    ("1 2", "more than one value", 2),
    ("[1 2", "'[' is never closed", 4),
    ("{:a (1]}", "']' closes '('", 6),
    ("[1]]", "']' closes nothing", 3),
    ("#{1 2", "'#{' is never closed", 5),
    ("{:a}", "key that has no value", 3),
    ("{:a 1 :a 2}", "two keys", 10),
    ('{"a" 1 :a 2}', "Text('a') and Keyword('a')", 11),
    ("{#:s{:a 1} 1 {:s/a 1} 2}", "two keys", 23),
    ("#{1 1.0}", "1 and 1.0", 7),
    ("#{[1] (1)}", "two elements", 9),
    ('["abc]', "string is never closed", 1),
    (r'"abc\"', "string is never closed", 0),
    (r'"\x"', "unknown escape", 0),
    (r'"\477"', "octal", 0),
    (r'"\ud83d"', "surrogate", 0),
    (r"\ud83d", "not a character", 0),
    (r"\ab", "not a character", 0),
    ("\\😀", "not a character", 0),
    ("\\", "not a character", 0),
    ("08", "not a number", 0),
    ("1a", "not a number", 0),
    ("+1a", "not a number", 0),
    ("2r3", "not a number", 0),
    ("37r1", "not a number", 0),
    ("1/0", "denominator 0", 0),
    ("1e9999999999999999999M", "out of range", 0),
    (" " + "1" * (MAX_DIGITS + 1), "digits", 1),
    ("::a", "not a symbol", 0),
    ("a:", "not a symbol", 0),
    ("a/1", "not a symbol", 0),
    (":", "not a symbol", 0),
    ("##Foo", "symbolic", 0),
    ("#", "'#'", 0),
    ("#<Object>", "'#'", 0),
    ("#::s{:a 1}", "simple symbol", 9),
    ("#:a/b{:c 1}", "simple symbol", 10),
    ("#_", "nothing follows #_", 0),
    ("[1 #_]", "nothing follows #_", 5),
    ("[#foo]", "nothing follows #foo", 5),
    ("[#uuid 1]", "not before a string", 8),
    ('#uuid "1-2-3-4-5"', "not a UUID", 0),
    ('#uuid "{0000000000004000800000000000000a}"', "not a UUID", 0),
    ('#inst "2026-02-30"', "day", 0),
    ('#inst "tomorrow"', "not an instant", 0),
    ("^{:a 1} x", "metadata", 0),
    (":a)", "closes nothing", 2),
]


@pytest.mark.parametrize(("text", "detail", "position"), REFUSED, ids=[text[:30] for text, _, _ in REFUSED])
def test_refuses_with_the_position(text: str, detail: str, position: int) -> None:
    with pytest.raises(WireError) as caught:
        edn.loads(text)
    assert caught.value.reason == "unreadable"
    assert detail in caught.value.detail
    assert caught.value.position == position


def test_refuses_what_is_not_utf8() -> None:
    with pytest.raises(WireError, match="not UTF-8 at byte 1"):
        edn.loads(b"a\xff")


@pytest.mark.parametrize("opener", ["[", "(", "#{", "{:a ", "#:s{:a ", "#a [", "[#_ 1 "])
def test_depth_is_limited_not_feared(opener: str) -> None:
    with pytest.raises(WireError, match="nested more than"):
        edn.loads(opener * 100_000)
    levels = MAX_DEPTH // 2 if opener == "#a [" else MAX_DEPTH
    closer = {"[": "]", "(": ")", "{": "}"}[next(char for char in opener if char in "[({")]
    nested = edn.loads(opener * levels + "1" + closer * levels)
    assert edn.loads(edn.dumps(nested)) == nested


@pytest.mark.parametrize("prefix", ["#a ", "#_ ", "#_ #a ", "#uuid "])
def test_many_prefixes(prefix: str) -> None:
    for tail in ("", "1", "[1]"):
        with pytest.raises(WireError):
            edn.loads(prefix * 100_000 + tail)


def test_keys_that_collide_on_purpose_are_refused_before_they_cost_time() -> None:
    step = 2**61 - 1  # all multiples have the hash 0
    text = " ".join(f"{at * step} 0" for at in range(1, CROWD + 2))
    with pytest.raises(WireError, match="same hash"):
        edn.loads(f"{{{text}}}")
    with pytest.raises(WireError, match="same hash"):
        edn.loads("#{" + text.replace(" 0", "") + "}")


def test_large_collections_are_read() -> None:
    count = CROWD * 3
    assert len(edn.loads("#{" + " ".join(map(str, range(count))) + "}")) == count
    assert len(edn.loads("{" + " ".join(f"[{at}] {at}" for at in range(count)) + "}")) == count


@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_unreadable(data: bytes) -> None:
    read_or_unreadable(data)


@given(st.text(alphabet=":a/?#{}[]()\"\\_ \n0129.-+eNMrx;'^%u☃,", max_size=30))
def test_any_text_like_edn_is_a_value_or_unreadable(text: str) -> None:
    read_or_unreadable(text.encode())


@given(st.sampled_from(load_samples()), st.data())
def test_mutated_samples_are_a_value_or_unreadable(sample: Any, data: st.DataObject) -> None:
    text = sample.text
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    insert = data.draw(st.text(alphabet=':a/?#{}[]()"\\_ 09', max_size=6))
    read_or_unreadable((text[:start] + insert + text[end:]).encode())


def read_or_unreadable(data: bytes) -> None:
    try:
        value = edn.loads(data)
    except WireError as error:
        reason, position = error.reason, error.position or 0
    else:
        reason, position = "unreadable", 0
        assert same(edn.loads(edn.dumps(value)), value)
    assert reason == "unreadable"
    assert 0 <= position <= len(data)


WRITTEN: list[tuple[Any, str]] = [
    (1.0, "1.0"),
    (-0.0, "-0.0"),
    (0.001, "0.001"),
    (1e-5, "1.0E-5"),
    (1.2e-4, "1.2E-4"),
    (9999999.0, "9999999.0"),
    (1e7, "1.0E7"),
    (123456789.125, "1.23456789125E8"),
    (1e100, "1.0E100"),
    (math.nan, "##NaN"),
    (-math.inf, "##-Inf"),
    (2**63 - 1, "9223372036854775807"),
    (2**63, "9223372036854775808N"),
    (Decimal("1.50"), "1.50M"),
    (Decimal("1E+3"), "1E+3M"),
    (Fraction(-1, 3), "-1/3"),
    (Fraction(2, 1), "2"),
    ('a"b\\c\n\t\r\f\b☃\x00', '"a\\"b\\\\c\\n\\t\\r\\f\\b☃\x00"'),
    (Char(" "), r"\space"),
    (Char("é"), r"\é"),
    ((), "()"),
    ([], "[]"),
    (frozenset(), "#{}"),
    ({1}, "#{1}"),
    ({K("a"): [1, (2, K("b"))], "s": None}, '{:a [1 (2 :b)], "s" nil}'),
    (Tagged("my/tag", [True]), "#my/tag [true]"),
    (datetime(2026, 1, 2, 3, 4, 5, 678000, UTC), '#inst "2026-01-02T03:04:05.678-00:00"'),
    (datetime(2026, 1, 2, 3, 4, 5, 678901, timezone(timedelta(hours=1))), '#inst "2026-01-02T02:04:05.678901-00:00"'),
    (UUID(int=1), '#uuid "00000000-0000-0000-0000-000000000001"'),
    (Vector([FrozenMap({1: 2})]), "[{1 2}]"),
]


@pytest.mark.parametrize(("value", "text"), WRITTEN, ids=[text for _, text in WRITTEN])
def test_writes_as_pr_str(value: Any, text: str) -> None:
    assert edn.dumps(value).decode() == text


class Colour(str, Enum):  # noqa: UP042 - str(RED) differs from StrEnum's, that is the point
    RED = "red"


class Number(IntEnum):
    ONE = 1


Pair = namedtuple("Pair", "left right")


def test_writes_subclasses_as_what_they_extend() -> None:
    value = [Colour.RED, Number.ONE, Pair(1, 2), OrderedDict(a=1), MappingProxyType({"b": 2})]
    assert edn.dumps(value) == b'["red" 1 (1 2) {"a" 1} {"b" 2}]'


@pytest.mark.parametrize(
    "value",
    [
        object(),
        b"bytes",
        timedelta(1),
        K("a b"),
        K(""),
        K("a:"),
        S("1a"),
        S("nil"),
        S("-1"),
        S(":a"),
        S("#a"),
        S("a;b"),
        Char("ab"),
        Char("😀"),
        Decimal("NaN"),
        Tagged("1", 2),
        Tagged("a b", 2),
        datetime(2026, 1, 1),
        "\ud800",
        10**MAX_DIGITS,
        Decimal(10**MAX_DIGITS),
        Fraction(1, 10**MAX_DIGITS),
        {1: {"deep": [object()]}},
    ],
    ids=lambda value: show(value, 20),
)
def test_refuses_to_write_what_could_not_be_read(value: Any) -> None:
    with pytest.raises(WireError) as caught:
        edn.dumps(value)
    assert caught.value.reason == "unwritable"


def test_refuses_to_write_without_end() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(WireError, match="nested more than"):
        edn.dumps(endless)


@given(values)
def test_what_is_written_is_read_again(value: Any) -> None:
    assert same(edn.loads(edn.dumps(value)), value)


@given(values)
def test_equal_values_have_equal_bytes(value: Any) -> None:
    assert edn.dumps(edn.loads(edn.dumps(value))) == edn.dumps(value)


@given(values)
def test_named_writing_keeps_values_equal(value: Any) -> None:
    assert without_nan(edn.loads(edn.dumps_named(value))) == without_nan(value)


def without_nan(value: Any) -> Any:
    return "nan" if value != value else value


def test_named_writing() -> None:
    value = {"seat": "?x", "New York": ["?why not?", "x"], "a/b": {"?r": K("k")}, "2013-02-08": S("s"), "nil": "nil"}
    assert edn.dumps_named(value).decode() == (
        '{:seat ?x, "New York" ["?why not?" "x"], :a/b {?r :k}, "2013-02-08" s, "nil" "nil"}'
    )
    assert edn.dumps({"seat": "?x"}) == b'{"seat" "?x"}'


@given(values)
def test_what_clojure_wrote_goes_back_as_it_came(value: Any) -> None:
    text = edn.dumps(value)
    assert edn.dumps_named(edn.loads(text)) == text
    through_state = codec.decode(codec.encode(edn.loads(text)))
    assert edn.dumps_named(through_state) == text
    through_json = tagged.loads(tagged.dumps(edn.loads(text)))
    assert edn.dumps_named(through_json) == text


def test_strings_of_clojure_stay_strings() -> None:
    text = b'{"seat" "?x", :seat2 "a", #{"b"} {"?c" 1}, #s/t {"d" 1} "?"}'
    value = edn.loads(text)
    assert value["seat"] == "?x"
    assert edn.dumps_named(value) == text


# --- edn_format as the oracle -------------------------------------------------------------------------------------


def from_oracle(value: Any) -> Any:
    """A value of edn_format as ours."""
    if isinstance(value, edn_format.Keyword):
        return K(str(value)[1:])
    if isinstance(value, edn_format.Symbol):
        return S(str(value))
    if isinstance(value, edn_format.Char):
        return Char(value)
    if isinstance(value, ImmutableList | list):
        return [*map(from_oracle, value)]
    if isinstance(value, tuple):
        return tuple(map(from_oracle, value))
    if isinstance(value, frozenset | set):
        return build_set([*map(from_oracle, value)])
    if isinstance(value, dict | edn_format.ImmutableDict):
        return build_map([from_oracle(part) for pair in value.items() for part in pair])
    return value


oracle_atoms = st.one_of(
    st.sampled_from(["nil", "true", "false"]),
    st.integers(-(10**25), 10**25).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    names.filter(lambda name: name[0].isalpha()),
    names.map(lambda name: f":{name}"),
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=6).map(
        lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    ),
    st.sampled_from(["1/3", "-7/2", "1.50M", "12N", r"\a", r"\newline", r"\space", '"a\\nb"']),
    st.uuids().map(lambda uuid: f'#uuid "{uuid}"'),
    st.just('#inst "2026-01-02T03:04:05.678Z"'),
)
separators = st.sampled_from([" ", ", ", "\n", " ; note\n", " #_ x ", " #_ [1 {}] "])


def wrap(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    sequence = st.tuples(st.lists(inner, max_size=4), separators).map(lambda drawn: drawn[1].join(drawn[0]))
    keys = st.lists(names.map(lambda name: f":{name}"), max_size=3, unique=True)
    return st.one_of(
        sequence.map(lambda text: f"[{text}]"),
        sequence.map(lambda text: f"({text})"),
        st.tuples(keys, inner).map(lambda drawn: "{" + ", ".join(f"{key} {drawn[1]}" for key in drawn[0]) + "}"),
        inner.map(lambda text: f"#{{{text}}}"),
    )


@given(st.recursive(oracle_atoms, wrap, max_leaves=10))
def test_reads_as_edn_format(text: str) -> None:
    assert same(edn.loads(text), from_oracle(edn_format.loads(text)))


@given(st.recursive(oracle_atoms, wrap, max_leaves=10))
def test_writes_what_edn_format_reads(text: str) -> None:
    value = edn.loads(text)
    assert same(from_oracle(edn_format.loads(edn.dumps(value).decode())), value)
