"""Tables on a log: what regroups and refers crosses partitions, and versions survive a restart without local state."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from streamlet import Materialized, StreamsBuilder, Topic, serdes
from streamlet.runtime.streams import KafkaStreams
from tests.runtime.harness import NOW, LogUnderTest, running

Rows = dict[bytes, bytes | None]


def rows(messages: list[Any]) -> Rows:
    """Return the last value of each key."""
    return {message.key(): message.value() for message in messages}


def topic(log: LogUnderTest, name: str) -> Topic[str, str]:
    return Topic(log.name(name), serdes.string, serdes.string)


def latest(app: KafkaStreams) -> Any:
    """Return the latest version of ``k``."""
    row = app.store("versions").get("k")
    return None if row is None else row.value


def test_foreign_keys_cross_partitions_and_a_restart(log: LogUnderTest, guarantee: str) -> None:
    """Orders lie in 3 partitions, customers in 2: subscriptions and answers find each other all the same."""
    log.create("orders", 3)
    log.create("customers", 2)
    log.create("joined", 2)
    builder = StreamsBuilder()
    customers = builder.table(topic(log, "customers"))
    builder.table(topic(log, "orders")).join(
        customers, lambda order: order.split(":")[0], lambda order, name: f"{order}/{name}"
    ).to_stream().to(topic(log, "joined"))
    log.write("customers", [(f"c{number}", f"name{number}") for number in range(5)])
    log.write("orders", [(f"o{number}", f"c{number % 5}:{number}") for number in range(40)])
    expected = {f"o{n}".encode(): f"c{n % 5}:{n}/name{n % 5}".encode() for n in range(40)}
    with running(builder.build(), log.config(guarantee=guarantee)) as app:
        log.read("joined", lambda found: rows(found) == expected)
    app.clean_up()  # the subscriptions are restored from their changelog
    expected |= {f"o{n}".encode(): f"c3:{n}/other".encode() for n in range(40) if n % 5 == 3}
    with running(builder.build(), log.config(guarantee=guarantee)):
        log.write("customers", [("c3", "other")])
        log.read("joined", lambda found: rows(found) == expected)


def test_regrouped_rows_are_counted_once(log: LogUnderTest, guarantee: str) -> None:
    log.create("teams", 3)
    log.create("counts", 2)
    builder = StreamsBuilder()
    builder.table(topic(log, "teams")).group_by(
        lambda key, team: (team, key), key_serde=serdes.string, value_serde=serdes.string
    ).count().map_values(str).to_stream().to(topic(log, "counts"))
    log.write("teams", [(f"p{number}", "red") for number in range(30)])
    with running(builder.build(), log.config(guarantee=guarantee)):
        log.read("counts", lambda found: rows(found) == {b"red": b"30"})
        log.write("teams", [(f"p{number}", "blue") for number in range(10)])
        log.read("counts", lambda found: rows(found) == {b"red": b"20", b"blue": b"10"})


def test_versions_are_restored(log: LogUnderTest, guarantee: str) -> None:
    log.create("names")
    log.create("out")
    builder = StreamsBuilder()
    versioned = Materialized[str]("versions", history_retention=timedelta(hours=1))
    builder.table(topic(log, "names"), store=versioned).to_stream().to(topic(log, "out"))
    log.write("names", [("k", "new")], NOW + 9_000)
    log.write("names", [("k", "old")], NOW + 5_000)
    with running(builder.build(), log.config(guarantee=guarantee)) as app:
        log.read("out", lambda found: len(found) == 2)
    app.clean_up()
    with running(builder.build(), log.config(guarantee=guarantee)) as app:
        log.write("names", [("k", "late")], NOW + 6_000)
        log.read("out", lambda found: len(found) == 3)
        assert latest(app) == "new", "what is out of order does not come before a version that was restored"
