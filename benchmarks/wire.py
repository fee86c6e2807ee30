"""What reading and writing a message costs: `python -m benchmarks.wire [ROUNDS]`.

Messages of three kinds in EDN, beside orjson with the same data (keywords, symbols and ids as strings), and edn_format
with the same text. Each round reads messages with ids never seen before, as on a topic, so that no cache of ours helps
more than it would there. Figures are medians over the rounds, of CPU time; the ratios count, not the microseconds.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from statistics import median
from time import process_time_ns
from typing import Any
from uuid import UUID, uuid4

import edn_format
import orjson

from spigot_topologies.plan import get, parallelize, serial, task
from spigot_topologies.wire import EDN, JSON, Create, Result, TaskMessage, decode_command, decode_task

BATCH = 20


def create() -> Any:
    plan = serial(
        task("find", in_={"flight": get("?flight")}, out={"?passengers": get("passengers")}),
        parallelize("?p", get("?passengers"), do=task("rebook", in_={"who": get("?p")}, out={"?seat": get("seat")})),
    )
    return Create({"workflows/form": plan, "workflows/ctx": {"?flight": "EV4412"}}, {"workflow/id": uuid4()})


def result() -> Any:
    return Result(uuid4(), {"seat": "12A", "flight": "EV4412", "retries": 2, "price": 99.5})


def task_message() -> Any:
    params = {"who": {"name": "Ada Lovelace", "seats": [1, 2, 3]}, "flight": "EV4412", "spigot/id": uuid4()}
    return TaskMessage({"workflow/id": uuid4()}, "rebook", params, uuid4())


def plain(value: Any) -> Any:
    """The same data for orjson, with nothing but strings for what JSON lacks."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [*map(plain, value)]
    return str(value) if isinstance(value, str | UUID) else value


def micros(action: Callable[[Any], Any], inputs: list[Any]) -> float:
    started = process_time_ns()
    for value in inputs:
        action(value)
    return (process_time_ns() - started) / len(inputs) / 1000


def measure(make: Callable[[], Any], decode: Callable[[bytes, Any], Any], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {}

    def note(name: str, action: Callable[[Any], Any], inputs: list[Any]) -> None:
        times.setdefault(name, []).append(micros(action, inputs))

    for _ in range(rounds):
        messages = [make() for _ in range(BATCH)]
        edn_texts = [EDN.write_message(message) for message in messages]
        json_texts = [JSON.write_message(message) for message in messages]
        note("orjson write", orjson.dumps, [plain(EDN.read(text)) for text in edn_texts])
        note("orjson read", orjson.loads, [orjson.dumps(plain(EDN.read(text))) for text in edn_texts])
        note("edn write", EDN.write, [EDN.read(text) for text in edn_texts])
        note("edn read", EDN.read, [EDN.write_message(make()) for _ in messages])
        note("edn message write", EDN.write_message, messages)
        note("edn message read", lambda text: decode(text, EDN), [EDN.write_message(make()) for _ in messages])
        note("json message write", JSON.write_message, messages)
        note("json message read", lambda text: decode(text, JSON), json_texts)
    for text in [EDN.write_message(make()).decode() for _ in range(BATCH)]:
        note("edn_format read", edn_format.loads, [text])
        note("edn_format write", edn_format.dumps, [edn_format.loads(text)])
    return {name: median(values) for name, values in times.items()}


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    gc.disable()
    for make, decode in ((create, decode_command), (result, decode_command), (task_message, decode_task)):
        message = make()
        sizes = f"{len(EDN.write_message(message))} bytes EDN, {len(JSON.write_message(message))} JSON"
        print(f"\n{type(message).__name__} ({sizes})")
        figures = measure(make, decode, rounds)
        for name, figure in figures.items():
            base = figures["orjson read" if name.endswith("read") else "orjson write"]
            print(f"  {name:20} {figure:8.2f} µs {figure / base:8.1f} × orjson", end="")
            if name.startswith("edn_format"):
                ours = figures["edn read" if name.endswith("read") else "edn write"]
                print(f" {figure / ours:8.1f} × ours", end="")
            print()


if __name__ == "__main__":
    main()
