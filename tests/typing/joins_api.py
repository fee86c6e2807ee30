"""What type checkers say about joins; lines marked ``# E`` must be errors."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from attrs import frozen

from streamlet import GlobalKTable, JoinWindows, KStream, StreamsBuilder, Topic, serdes


@frozen
class Order:
    customer: str
    total: float


@frozen
class Customer:
    name: str


builder = StreamsBuilder()
orders = builder.stream(Topic("orders", serdes.string, serdes.json_of(Order)))
payments = builder.stream(Topic("payments", serdes.string, serdes.float64))
customers = builder.table(Topic("customers", serdes.string, serdes.json_of(Customer)))
everyone = builder.global_table(Topic("everyone", serdes.string, serdes.json_of(Customer)))
numbered = builder.stream(Topic("numbered", serdes.int64, serdes.string))
WINDOWS = JoinWindows.of_time_difference(timedelta(minutes=1), grace=timedelta(0))

assert_type(everyone, GlobalKTable[str, Customer])
assert_type(orders.join(customers, lambda o, c: (o.total, c.name)), KStream[str, tuple[float, str]])
assert_type(orders.join(customers, lambda k, o, c: (k, c.name), with_key=True), KStream[str, tuple[str, str]])
assert_type(orders.join(payments, lambda o, p: o.total - p, WINDOWS), KStream[str, float])
assert_type(orders.join(everyone, lambda _, o: o.customer, lambda o, c: c.name), KStream[str, str])
assert_type(orders.left_join(customers, lambda o, c: c is None), KStream[str, bool])
assert_type(orders.left_join(payments, lambda o, p: o.total - (p or 0.0), WINDOWS), KStream[str, float])
assert_type(orders.left_join(everyone, lambda _, o: o.customer, lambda o, c: c is None), KStream[str, bool])


def either(order: Order | None, payment: float | None) -> str:
    return f"{order} {payment}"


def wrong(order: Order, customer: int) -> str:
    return f"{order} {customer}"


def certain(order: Order, payment: float) -> str:
    return f"{order} {payment}"


assert_type(orders.outer_join(payments, either, WINDOWS), KStream[str, str])
orders.join(customers, wrong)  # E: no customer is an int
orders.join(customers)  # E: no joiner
orders.outer_join(payments, certain, WINDOWS)  # E: each side may be missing
orders.left_join(payments, certain, WINDOWS)  # E: the payment may be missing
orders.join(payments, certain)  # E: no windows
