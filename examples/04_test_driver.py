"""4. Testing a topology: no log, no threads, no waiting.

The driver runs the very code that an application runs. Each record is processed before `pipe_input` returns, and time
moves only when it is told to.
"""

from datetime import timedelta

from streamlet import StreamsBuilder, Topic, Topology, TopologyTestDriver, serdes

ORDERS = Topic("orders", serdes.string, serdes.float64)
LARGE = Topic("large-orders", serdes.string, serdes.float64)
SPENT = Topic("spent", serdes.string, serdes.float64)


def orders() -> Topology:
    """Large orders apart; what each customer has spent."""
    builder = StreamsBuilder()
    stream = builder.stream(ORDERS)
    stream.filter(lambda _, amount: amount >= 1000).to(LARGE)
    stream.group_by_key().reduce(lambda total, amount: total + amount, store="spent").to_stream().to(SPENT)
    return builder.build()


def main() -> None:
    """What a test would do; `assert` says what holds."""
    with TopologyTestDriver(orders()) as driver:
        source = driver.create_input_topic(ORDERS, auto_advance=timedelta(seconds=1))
        source.pipe_key_value_list([("ann", 100.0), ("bob", 1500.0), ("ann", 2.5)])

        large = driver.create_output_topic(LARGE)
        assert large.read_key_values_to_list() == [("bob", 1500.0)]
        assert large.is_empty

        spent = driver.create_output_topic(SPENT)
        assert spent.read_key_values_to_list() == [("ann", 100.0), ("bob", 1500.0), ("ann", 102.5)]
        assert driver.get_state_store("spent").get("ann") == 102.5
        print("large orders: bob; ann has spent", driver.get_state_store("spent").get("ann"))


if __name__ == "__main__":
    main()
