"""What type checkers say about tables; lines marked ``# E`` must be errors."""

from __future__ import annotations

from typing import assert_type

from attrs import frozen

from streamlet import KGroupedTable, KTable, StreamsBuilder, Topic, serdes


@frozen
class Order:
    customer: str
    total: float


builder = StreamsBuilder()
orders = builder.table(Topic("orders", serdes.string, serdes.json_of(Order)))
names = builder.table(Topic("names", serdes.string, serdes.string))
sizes = builder.table(Topic("sizes", serdes.string, serdes.int64))


def both(order: Order, name: str) -> tuple[Order, str]:
    return order, name


def maybe(order: Order, name: str | None) -> tuple[Order, str | None]:
    return order, name


def either(order: Order | None, name: str | None) -> str:
    return f"{order} {name}"


def customer(order: Order) -> str:
    return order.customer


def by_customer(key: str, order: Order) -> tuple[str, float]:
    return order.customer, order.total


def add(key: str, total: float, so_far: float) -> float:
    return so_far + total


assert_type(orders.join(names, both), KTable[str, tuple[Order, str]])
assert_type(orders.left_join(names, maybe), KTable[str, tuple[Order, str | None]])
assert_type(orders.outer_join(names, either), KTable[str, str])
assert_type(orders.join(names, customer, both), KTable[str, tuple[Order, str]])
assert_type(orders.group_by(by_customer), KGroupedTable[str, float])
assert_type(orders.group_by(by_customer).count(), KTable[str, int])
assert_type(orders.group_by(by_customer).aggregate(float, add, add), KTable[str, float])

orders.join(sizes, both)  # E
orders.left_join(names, both)  # E
orders.outer_join(names, maybe)  # E
