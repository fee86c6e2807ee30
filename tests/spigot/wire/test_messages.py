"""Messages over both codecs: read again as they were, rejected with a reason, named as Clojure needs them."""

from __future__ import annotations

import pickle
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spigot_topologies.errors import CallbackError, PlanError, WireError, WorkflowFailed
from spigot_topologies.plan import catch as catch_
from spigot_topologies.plan import each, get, isolate, parallelize, quote, serial, task, try_
from spigot_topologies.values import Keyword, Symbol
from spigot_topologies.wire import (
    EDN,
    JSON,
    Codec,
    Create,
    Event,
    EventHeaders,
    Extensions,
    Failure,
    Rejected,
    Result,
    TaskMessage,
    create_wf_msg,
    decode_command,
    decode_task,
    edn,
    encode,
    event_headers,
    extension_headers,
    read_event,
    read_extensions,
    serdes,
)
from tests.spigot.wire.samples import load_samples, same, values

CODECS = [JSON, EDN]
RUN = UUID(int=7)
TASK_ID = UUID(int=8)
both = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.name)

PLAN = serial(
    task("find", in_={"flight": get("?flight")}, out={"?alternatives": get("flights")}),
    try_(
        parallelize(
            "?passenger",
            get("?passengers"),
            throttle=20,
            into={"?seats": each(get("?seat"))},
            do=task("rebook", in_={"who": [get("?passenger")], "note": "as is"}, out={"?seat": get("seat")}),
        ),
        catch_("?error", task("strand", in_={"why": get("?error"), "raw": quote(["?x", "y"])})),
    ),
)

MESSAGES = [
    Create({"workflows/form": PLAN, "workflows/ctx": {"?flight": "F1", "?passengers": [1, 2]}, "workflows/name": "n"}),
    Create({"workflows/form": ["a"]}, {"workflow/id": RUN}),
    Result(TASK_ID, {"seat": "12A"}),
    Result(TASK_ID, None),
    Failure(TASK_ID, {"message": "full", "type": "ValueError"}),
    TaskMessage({"workflow/id": RUN}, "rebook", {"who": [1], "spigot/id": TASK_ID}, RUN),
    TaskMessage(None, "a", {"spigot/id": "t-1"}, "wf-1"),
]


@both
@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_read_again(message: Any, codec: Codec) -> None:
    data = encode(message, codec)
    decode = decode_task if isinstance(message, TaskMessage) else decode_command
    assert decode(data, codec) == message
    assert serdes(codec.name).value.deserialize(data) == message


@both
@given(values, values)
def test_any_result_is_read_again(codec: Codec, result: Any, ctx: Any) -> None:
    for message in (Result(TASK_ID, result), Create({"workflows/form": ["a"], "x": result}, ctx)):
        assert decode_command(encode(message, codec), codec) == message


def test_a_plan_of_plain_strings_is_what_clojure_would_have_written() -> None:
    written = EDN.write_message(Create({"workflows/form": PLAN, "workflows/ctx": {"?flight": "F1"}}, None)).decode()
    assert written == (
        "[:spigot.controllers.kafka.topologies/create! {:workflows/form [:spigot/serial "
        "[:find {:spigot/in {:flight (spigot/get ?flight)}, :spigot/out {?alternatives (spigot/get :flights)}}] "
        "[:spigot/try [:spigot/parallelize {:spigot/for [?passenger (spigot/get ?passengers)], "
        ":spigot/into {?seats (spigot/each (spigot/get ?seat))}, :spigot/throttle 20} "
        '[:rebook {:spigot/in {:who [(spigot/get ?passenger)], :note "as is"}, '
        ":spigot/out {?seat (spigot/get :seat)}}]] "
        "[:spigot/catch {:spigot/error ?error} "
        '[:strand {:spigot/in {:why (spigot/get ?error), :raw (spigot/quote [?x "y"])}}]]]], '
        ':workflows/ctx {?flight "F1"}} nil]'
    )


def test_the_readmes_plan_becomes_the_recorded_message() -> None:
    sample = load_samples()[0]
    plan = [
        "spigot/serial",
        ["task-1", {"spigot/in": {"input": get("?initial")}, "spigot/out": {"?r": get("result")}}],
        ["task-2", {"spigot/in": {"r": get("?r")}}],
    ]
    workflow_id = UUID("11111111-2222-4333-8444-555555555555")
    message = create_wf_msg(
        {"workflows/form": plan, "workflows/ctx": {"?initial": Keyword("ctx")}}, {"workflow/id": workflow_id}
    )
    made = serdes("edn")
    assert made.value.serialize(message).decode() == sample.text
    assert made.key.serialize(workflow_id).decode() == sample.key_text


def test_names_in_isolate_and_names_without_a_question_mark() -> None:
    plan = isolate(["a", {"spigot/out": {"seat": get("seat")}}], binding={"x": get("?y")}, commit={"?z": get("seat")})
    read = edn.loads(EDN.write_message(Create({"workflows/form": plan})))[1]["workflows/form"]
    options = read[1]
    assert same(options["spigot/binding"], [Keyword("x"), (Symbol("spigot/get"), Symbol("?y"))])
    assert same(options["spigot/commit"], {Symbol("?z"): (Symbol("spigot/get"), Keyword("seat"))})
    assert same(read[2][1]["spigot/out"], {Keyword("seat"): (Symbol("spigot/get"), Keyword("seat"))})


def test_a_task_for_a_clojure_worker() -> None:
    message = TaskMessage({"a": 1}, "rebook", {"seat": "1A", "spigot/id": TASK_ID}, RUN)
    task_id = f'#uuid "{TASK_ID}"'
    assert EDN.write_message(message).decode() == (
        f'{{:ctx {{:a 1}}, :task [:rebook {{:seat "1A", :spigot/id {task_id}}}], '
        f":workflow {{:root-id {task_id}, :scope {{}}, :sub-scope {{}}, "
        f":tasks {{{task_id} [:rebook {{:spigot/id {task_id}, :spigot/realized? true}}]}}, "
        f":running #{{{task_id}}}, :results {{}}}}, "
        f':workflow-id #uuid "{RUN}"}}'
    )
    assert JSON.write_message(message) == (
        b'{"ctx":{"a":1},"task":["rebook",{"seat":"1A","spigot/id":{"$uuid":"%b"}}],"workflow-id":{"$uuid":"%b"}}'
        % (str(TASK_ID).encode(), str(RUN).encode())
    )


@both
@pytest.mark.parametrize("value", [None, "done", ["my.app/done", {"a": 1}], {"?x": 1}, 1.5])
def test_events_are_values(value: Any, codec: Codec) -> None:
    value_serde = serdes(codec.name).value
    assert value_serde.deserialize(value_serde.serialize(value)) == value
    assert value_serde.serialize(Event(value)) == value_serde.serialize(value)


UNKNOWN = [
    None,
    1,
    "create!",
    [],
    [[]],
    ["create!"],
    ["spigot.controllers.kafka.topologies/create!"],
    ["spigot.controllers.kafka.topologies/create!", None],
    ["spigot.controllers.kafka.topologies/create!", {}, None, None],
    ["spigot.controllers.kafka.topologies/result"],
    ["spigot.controllers.kafka.topologies/result", []],
    ["spigot.controllers.kafka.topologies/result", {"spigot/result": {}}],
    ["spigot.controllers.kafka.topologies/failure", {"spigot/error": {}}],
    {},
    {"task": None},
    {"task": [], "workflow-id": "w"},
    {"task": ["a", {}], "workflow-id": "w"},
    {"task": ["a", {"spigot/id": "t"}]},
    {"task": ["", {"spigot/id": "t"}], "workflow-id": "w"},
    {"task": [1, {"spigot/id": "t"}], "workflow-id": "w"},
    {"task": ["a", {"spigot/id": "t"}, 1], "workflow-id": "w"},
]


@both
@pytest.mark.parametrize("data", UNKNOWN, ids=str)
def test_what_is_no_message_is_unknown(data: Any, codec: Codec) -> None:
    written = codec.write(data)
    for decode in (decode_command, decode_task):
        rejected = decode(written, codec)
        assert rejected == Rejected("unknown-message", "")
        assert rejected.detail
    assert serdes(codec.name).value.deserialize(written) == data


@both
def test_messages_of_the_other_topic_are_unknown(codec: Codec) -> None:
    assert decode_command(encode(MESSAGES[-1], codec), codec) == Rejected("unknown-message", "")
    assert decode_task(encode(MESSAGES[0], codec), codec) == Rejected("unknown-message", "")


@both
def test_records_without_a_value(codec: Codec) -> None:
    assert decode_command(None, codec) == Rejected("unknown-message", "")
    assert decode_task(None, codec) == Rejected("unknown-message", "")


@both
@given(data=st.binary(max_size=60))
def test_any_bytes_are_rejected_with_a_reason(codec: Codec, data: bytes) -> None:
    for decode in (decode_command, decode_task):
        rejected = decode(data, codec)
        assert isinstance(rejected, Rejected)
        assert rejected.reason in ("unreadable", "unknown-message")


@both
@given(st.sampled_from(MESSAGES), st.data())
def test_mutated_messages_are_messages_or_rejected(codec: Codec, message: Any, data: st.DataObject) -> None:
    written = bytearray(encode(message, codec))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(written) - 1))
        written[at : at + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=4))
        if not written:
            break
    for decode in (decode_command, decode_task):
        decoded = decode(bytes(written), codec)
        if not isinstance(decoded, Rejected):
            assert decode(encode(decoded, codec), codec) == decoded


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        (None, "unwritable"),
        ([], "unwritable"),
        ({}, "unwritable"),
        ({"workflows/form": None}, "unwritable"),
        ({"workflows/form": []}, "unwritable"),
        ({"workflows/form": "a"}, "unwritable"),
        ({"workflows/form": [{"a": 1}]}, "unwritable"),
        ({"workflows/form": ["a"], "workflows/ctx": [1]}, "unwritable"),
        ({"workflows/form": ["a"], "workflows/ctx": {"?x": object()}}, "unwritable"),
        ({"workflows/form": ["a"], "workflows/ctx": {"?x": "x" * 1_000_001}}, "oversize"),
    ],
)
def test_create_wf_msg_refuses(params: Any, reason: str) -> None:
    with pytest.raises(WireError) as caught:
        create_wf_msg(params)
    assert caught.value.reason == reason


def test_create_wf_msg_refuses_plans_without_end() -> None:
    plan: list[Any] = ["spigot/serial"]
    plan.append(plan)
    with pytest.raises(WireError, match="too deeply"):
        create_wf_msg({"workflows/form": plan})


def test_plans_as_deep_as_may_be() -> None:
    plan: Any = task("a", in_={"x": [(get("?x"))]})
    for _ in range(255):
        plan = serial(plan)
    message = create_wf_msg({"workflows/form": plan})
    for codec in CODECS:
        assert decode_command(encode(message, codec), codec) == message


@both
def test_the_size_limit_is_a_setting(codec: Codec) -> None:
    value = serdes(codec.name, max_bytes=10).value
    with pytest.raises(WireError) as caught:
        value.serialize("x" * 20)
    assert caught.value.reason == "oversize"


def test_there_are_two_codecs() -> None:
    assert serdes().codec is JSON
    with pytest.raises(ValueError, match="no codec 'xml'; there are 'json' and 'edn'"):
        serdes("xml")


def test_keys_are_exact() -> None:
    for codec in CODECS:
        made = serdes(codec.name)
        for key in (RUN, str(RUN), "?x", Keyword("k"), 1, (1, "a")):
            assert same(made.key.deserialize(made.key.serialize(key)), key)
        assert made.key.serialize(RUN) != made.key.serialize(str(RUN))


# --- headers ------------------------------------------------------------------------------------------------------

extensions = st.builds(Extensions, st.uuids(), st.integers(1, 10**6), st.integers(1, 9))


@given(st.binary(min_size=1, max_size=40), extensions)
def test_extensions_are_read_on_their_own_record_only(key: bytes, sent: Extensions) -> None:
    headers = extension_headers(key, sent)
    assert read_extensions(key, headers) == sent
    assert read_extensions(key + b"x", headers) is None  # copied by Kafka Streams onto the next record
    assert read_extensions(None, headers) is None
    assert read_extensions(key, []) is None


def test_own_extensions_win_over_copied_ones() -> None:
    mine = Extensions(RUN, 2)
    assert (
        read_extensions(b"k", extension_headers(b"other", Extensions(UUID(int=9))) + extension_headers(b"k", mine))
        == mine
    )


@pytest.mark.parametrize("name", ["sp-run", "sp-attempt", "sp-version"])
@pytest.mark.parametrize("value", [None, b"", b"x", b"-1", b"\xff", b"1" * 30, "²".encode()])
def test_broken_extensions_are_none(name: str, value: bytes | None) -> None:
    headers = [(header, value if header == name else data) for header, data in extension_headers(b"k", Extensions(RUN))]
    assert read_extensions(b"k", headers) is None


def test_event_headers() -> None:
    event = EventHeaders(b'"wf-1"', RUN, "running", 3)
    assert read_event(event_headers(event)) == event
    assert read_event([]) is None
    assert read_event([*event_headers(event), ("sp-status", b"odd")]) is None


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (PlanError(["r.0: a", "r.1: b"]), "the plan has 2 faults:\n  r.0: a\n  r.1: b"),
        (WorkflowFailed({"message": "full"}, "wf-1"), "workflow wf-1 failed: full"),
        (WorkflowFailed({"code": 1}), "the workflow failed: {'code': 1}"),
        (CallbackError("on_update", ValueError("no")), "on_update raised ValueError: no"),
        (WireError("unreadable", "not EDN", 3), "unreadable: not EDN at character 3"),
    ],
)
def test_errors_say_what_they_carry_and_can_be_pickled(error: Exception, text: str) -> None:
    assert str(error) == text
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == text


@pytest.mark.parametrize("codec", [JSON, EDN])
@pytest.mark.parametrize(
    ("message", "place"),
    [
        (Result(UUID(int=1), {"a": [1, {"b": object()}]}), "result['a'][1]['b']"),
        (Event({"x": (1, object())}), "value['x'][1]"),
    ],
)
def test_the_part_that_cannot_be_written_is_named(codec: Codec, message: Any, place: str) -> None:
    with pytest.raises(WireError, match="a object has no form in a message") as caught:
        encode(message, codec)
    assert caught.value.detail.endswith(f"; it is at {place}")


@pytest.mark.parametrize("codec", [JSON, EDN])
def test_what_is_part_of_itself_has_no_place(codec: Codec) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(WireError, match=r"levels deep$"):
        encode(Event(endless), codec)
