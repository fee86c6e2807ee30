"""The processors that Kafka Streams' tests write by hand, as far as cases need them; written anew from what they do."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from streamlet.processor.api import FixedKeyProcessor, Processor, PunctuationType
from streamlet.records import Record


class LengthOfValue(Processor[Any, Any, Any, Any]):
    """Forwards the length of each value."""

    def process(self, record: Record[Any, Any]) -> None:
        """See `Processor`."""
        self.context.forward(record.with_value(len(record.value)))


class LengthTransformer(FixedKeyProcessor[Any, Any, Any]):
    """Forwards the length of each value, None for none."""

    def process(self, record: Record[Any, Any]) -> None:
        """See `FixedKeyProcessor`."""
        self.context.forward(record.with_value(None if record.value is None else len(record.value)))


class ExclamationTransformer(FixedKeyProcessor[Any, Any, Any]):
    """Forwards key and value as ``key->value!``."""

    def process(self, record: Record[Any, Any]) -> None:
        """See `FixedKeyProcessor`."""
        value = "null" if record.value is None else record.value
        self.context.forward(record.with_value(f"{record.key}->{value}!"))


class RunningCount(FixedKeyProcessor[Any, Any, Any]):
    """Forwards how many values it has seen."""

    def __init__(self) -> None:
        self._count = 0

    def process(self, record: Record[Any, Any]) -> None:
        """See `FixedKeyProcessor`."""
        self._count += 1
        self.context.forward(record.with_value(self._count))


class RunningTotal(FixedKeyProcessor[Any, Any, Any]):
    """Forwards the sum of the values so far."""

    def __init__(self) -> None:
        self._total = 0

    def process(self, record: Record[Any, Any]) -> None:
        """See `FixedKeyProcessor`."""
        self._total += record.value
        self.context.forward(record.with_value(self._total))


class RunningTotalWithKey(FixedKeyProcessor[Any, Any, Any]):
    """Forwards the sum of keys and values so far."""

    def __init__(self) -> None:
        self._total = 0

    def process(self, record: Record[Any, Any]) -> None:
        """See `FixedKeyProcessor`."""
        self._total += record.value + record.key
        self.context.forward(record.with_value(self._total))


class RunningTotalPairs(Processor[Any, Any, Any, Any]):
    """Doubles keys, sums values, and tells the wall clock under the key -1 each millisecond."""

    def __init__(self) -> None:
        self._total = 0

    def init(self, context: Any) -> None:
        """See `Processor`."""
        context.schedule(timedelta(milliseconds=1), PunctuationType.WALL_CLOCK_TIME, self._tick)

    def _tick(self, time: int) -> None:
        self.context.forward(Record(-1, time, time))

    def process(self, record: Record[Any, Any]) -> None:
        """See `Processor`."""
        self._total += record.value
        self.context.forward(Record(record.key * 2, self._total, record.timestamp, record.headers))


class UpdatingValue(FixedKeyProcessor[Any, Any, Any]):
    """Forwards each value with ``Updated`` behind it; its store is given by `with_store`."""

    def process(self, record: Record[Any, Any]) -> None:
        """See `FixedKeyProcessor`."""
        self.context.forward(record.with_value(f"{record.value}Updated"))


class FailOnErrorKeys(Processor[Any, Any, Any, Any]):
    """Fails for keys that hold ``ERR``, forwards the rest."""

    def process(self, record: Record[Any, Any]) -> None:
        """See `Processor`."""
        if "ERR" in record.key:
            raise RuntimeError("Exception should be handled by processing exception handler")
        self.context.forward(Record(record.key, record.value, record.timestamp))


class LargestValue(Processor[Any, Any, Any, Any]):
    """Keeps the largest value of each key in ``aggStore``, and forwards all of them at times."""

    def init(self, context: Any) -> None:
        """See `Processor`."""
        self._store = context.get_state_store("aggStore")
        context.schedule(timedelta(minutes=1), PunctuationType.WALL_CLOCK_TIME, self._flush)
        context.schedule(timedelta(seconds=10), PunctuationType.STREAM_TIME, self._flush)

    def process(self, record: Record[Any, Any]) -> None:
        """See `Processor`."""
        largest = self._store.get(record.key)
        if largest is None or record.value > largest:
            self._store.put(record.key, record.value)

    def _flush(self, time: int) -> None:
        for key, value in self._store.all():
            self.context.forward(Record(key, value, time))


def with_stores(supplier: Any, builders: list[Any]) -> Any:
    """Return a processor's class that brings along stores."""
    return type(supplier.__name__, (supplier,), {"stores": tuple(builders)})
