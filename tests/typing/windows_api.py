"""Windows, cogroup and suppress for a type checker. Checked by test_typing.py, never run.

`# E` marks a line that must be an error for mypy and for pyright, both strict; all others must be clean.
"""
# pyright: strict, reportUnusedExpression=false, reportUnusedVariable=false, reportUnknownLambdaType=false

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from attrs import frozen

from streamlet import (
    EmitStrategy,
    KStream,
    KTable,
    Materialized,
    SessionWindows,
    SlidingWindows,
    StreamsBuilder,
    Suppressed,
    TimeWindows,
    Topic,
    UnlimitedWindows,
    Windowed,
    serdes,
)


@frozen
class Click:
    page: str


@frozen
class Total:
    n: int = 0

    def add(self, other: int) -> Total:
        return Total(self.n + other)


HOUR = timedelta(hours=1)
clicks_topic = Topic("clicks", serdes.string, serdes.json_of(Click))
orders_topic = Topic("orders", serdes.string, serdes.int64)
builder = StreamsBuilder()
clicks = builder.stream(clicks_topic).group_by_key()
orders = builder.stream(orders_topic).group_by_key()
hourly = TimeWindows.of_size(HOUR, grace=timedelta(0))

# windows keep the types of keys and values
tumbling = orders.windowed_by(hourly)
assert_type(tumbling.count(), KTable[Windowed[str], int])
assert_type(tumbling.count(store="counts"), KTable[Windowed[str], int])
assert_type(tumbling.reduce(lambda one, other: one + other), KTable[Windowed[str], int])
totals = tumbling.aggregate(
    Total, lambda _, n, total: total.add(n), store=Materialized(value_serde=serdes.json_of(Total), retention=HOUR)
)
assert_type(totals, KTable[Windowed[str], Total])
assert_type(totals.to_stream(), KStream[Windowed[str], Total | None])
assert_type(totals.to_stream(lambda key, _: key.key), KStream[str, Total | None])
assert_type(clicks.windowed_by(UnlimitedWindows.of()).count(), KTable[Windowed[str], int])
assert_type(clicks.windowed_by(SlidingWindows.of_time_difference(HOUR, grace=HOUR)).count(), KTable[Windowed[str], int])
assert_type(tumbling.emit_strategy(EmitStrategy.ON_WINDOW_CLOSE).count(), KTable[Windowed[str], int])
TimeWindows.of_size(HOUR)  # E: grace is always given
orders.windowed_by(HOUR)  # E: no windows

# sessions need a merger
sessions = orders.windowed_by(SessionWindows.of_inactivity_gap(HOUR, grace=HOUR))
assert_type(sessions.count(), KTable[Windowed[str], int])
assert_type(
    sessions.aggregate(
        Total,
        lambda _, n, total: total.add(n),
        lambda _, one, other: one.add(other.n),
        store=Materialized(value_serde=serdes.json_of(Total)),
    ),
    KTable[Windowed[str], Total],
)
sessions.aggregate(Total, lambda _, n, total: total.add(n))  # E: no merger

# keys within windows have serdes of their own
totals.to_stream().to(Topic("totals", serdes.time_windowed(serdes.string, HOUR), serdes.json_of(Total)))
totals.to_stream().to(Topic("totals", serdes.string, serdes.json_of(Total)))  # E: the keys are Windowed

# suppress
assert_type(totals.suppress(Suppressed.until_window_closes()), KTable[Windowed[str], Total])
assert_type(orders.count().suppress(Suppressed.until_time_limit(HOUR, max_records=9)), KTable[str, int])
totals.suppress(Suppressed.until_time_limit(HOUR))
assert_type(totals.suppress(Suppressed.until_window_closes(idle_after=HOUR)), KTable[Windowed[str], Total])
Suppressed.until_time_limit(HOUR, idle_after=1000)  # E: no duration
orders.count().suppress(Suppressed.until_window_closes())  # E: not windowed
Suppressed.until_window_closes(when_full="emit_early")  # E: not final
Suppressed.until_time_limit(HOUR, when_full="wait")  # E: no such choice


# cogroup
def clicked(key: str, click: Click, total: Total) -> Total:
    return total.add(len(click.page))


def ordered(key: str, order: int, total: Total) -> Total:
    return total.add(order)


together = clicks.cogroup(clicked).cogroup(orders, ordered)
assert_type(together.aggregate(Total), KTable[str, Total])
assert_type(together.windowed_by(hourly).aggregate(Total), KTable[Windowed[str], Total])
by_session = together.windowed_by(SessionWindows.of_inactivity_gap(HOUR, grace=HOUR))
assert_type(by_session.aggregate(Total, lambda _, one, other: one.add(other.n)), KTable[Windowed[str], Total])
final = by_session.emit_strategy(EmitStrategy.ON_WINDOW_CLOSE, idle_after=HOUR)
assert_type(final.aggregate(Total, lambda _, one, other: one.add(other.n)), KTable[Windowed[str], Total])
together.aggregate(int)  # E: no Total
clicks.cogroup(clicked).cogroup(orders, clicked)  # E: orders are numbers
