"""`MockProcessorContext`: a context for a processor on its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from attrs import frozen

from streamlet.config import StreamsConfig
from streamlet.errors import TopologyError
from streamlet.processor.adapter import checked_interval
from streamlet.processor.api import Cancellable, PunctuationType
from streamlet.records import Headers, Record, RecordMetadata, TaskId
from streamlet.state import StateMemory, StoreBuilder, TaskState


@frozen
class CapturedForward:
    """A record that the processor forwarded; `child` is None if it went to all."""

    record: Record[Any, Any]
    child: str | None


class CapturedPunctuator:
    """A punctuation that the processor scheduled.

    Attributes:
        interval: Its interval.
        type: Which time it follows.
        punctuator: The callback; call it with a time in ms.
        cancelled: Whether the processor cancelled it.
    """

    def __init__(self, interval: timedelta, type: PunctuationType, punctuator: Callable[[int], object]) -> None:
        self.interval = interval
        self.type = type
        self.punctuator = punctuator
        self.cancelled = False

    def cancel(self) -> None:
        """Cancel it."""
        self.cancelled = True


class MockProcessorContext:
    """Stands for the context of a `Processor` or `FixedKeyProcessor`, and captures what it does.

    ::

        context = MockProcessorContext(stores=[SEEN])
        processor = Deduplicate()
        processor.init(context)
        processor.process(Record("k", event, 0))
        assert [captured.record for captured in context.forwarded] == [...]

    Args:
        config: Kafka Streams' keys, for `app_configs`.
        task_id: The task's id.
        stores: Stores the processor may ask for; they are in memory.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None = None,
        *,
        task_id: TaskId | None = None,
        stores: tuple[StoreBuilder[Any], ...] | list[StoreBuilder[Any]] = (),
    ) -> None:
        self._config = dict(config or {})
        defaults = {"application.id": "mock-processor-context", "bootstrap.servers": "embedded:"}
        self._application_id = StreamsConfig.parse({**defaults, **self._config}).application_id
        self._task_id = task_id or TaskId(0, 0)
        self._metadata: RecordMetadata | None = None
        self._headers: Headers = ()
        self._stream_time_ms = -1
        self._system_time_ms = 0
        self.committed = False
        self.forwarded: list[CapturedForward] = []
        self.scheduled_punctuators: list[CapturedPunctuator] = []
        self._state = TaskState.open(
            list(stores), directory=None, memory=StateMemory(8 << 20), timestamp=lambda: max(self._stream_time_ms, 0)
        )
        self._names = {store.name for store in stores}

    # --- what a processor sees --------------------------------------------------------------------------------------

    def get_state_store(self, store: StoreBuilder[Any] | str, /) -> Any:
        """Return one of the stores given to the constructor.

        Raises:
            TopologyError: If it is none of them.
        """
        name = store if isinstance(store, str) else store.name
        if name not in self._names:
            raise TopologyError(f"MockProcessorContext has no store {name!r}: give it with stores=[...]")
        return self._state.store(name)

    def schedule(self, interval: timedelta, type: PunctuationType, callback: Callable[[int], object], /) -> Cancellable:
        """Capture a punctuation; nothing calls it but the test."""
        checked_interval(interval, type, callback, "")
        captured = CapturedPunctuator(interval, type, callback)
        self.scheduled_punctuators.append(captured)
        return captured

    def forward(self, record: Record[Any, Any], child: str | None = None) -> None:
        """Capture a record."""
        if record.timestamp < 0:
            raise ValueError(f"a record is forwarded with the negative timestamp {record.timestamp}")
        self.forwarded.append(CapturedForward(record, child))

    def commit(self) -> None:
        """Note that a commit was asked for."""
        self.committed = True

    def record_metadata(self) -> RecordMetadata | None:
        """Return what `set_record_metadata` was given."""
        return self._metadata

    def headers(self) -> Headers:
        """Return what `set_headers` was given."""
        return self._headers

    def current_stream_time(self) -> int:
        """Return what `set_current_stream_time` was given; -1 before."""
        return self._stream_time_ms

    def current_system_time(self) -> int:
        """Return what `set_current_system_time` was given; 0 before."""
        return self._system_time_ms

    @property
    def task_id(self) -> TaskId:
        """The task's id."""
        return self._task_id

    @property
    def application_id(self) -> str:
        """The application's id."""
        return self._application_id

    def app_configs(self) -> Mapping[str, Any]:
        """Return the configuration."""
        return self._config

    # --- what a test does -------------------------------------------------------------------------------------------

    def set_record_metadata(self, topic: str, partition: int, offset: int) -> None:
        """Say where the record at hand came from."""
        self._metadata = RecordMetadata(topic, partition, offset)

    def set_headers(self, headers: Headers) -> None:
        """Say what headers the record at hand has."""
        self._headers = headers

    def set_current_stream_time(self, stream_time_ms: int) -> None:
        """Set the stream time (ms)."""
        self._stream_time_ms = stream_time_ms

    def set_current_system_time(self, system_time_ms: int) -> None:
        """Set the wall clock (ms)."""
        self._system_time_ms = system_time_ms

    def forwarded_to(self, child: str) -> list[CapturedForward]:
        """Return what a child was sent: what was forwarded to it by name, and to all."""
        return [captured for captured in self.forwarded if captured.child in (None, child)]

    def reset_forwards(self) -> None:
        """Forget what was forwarded."""
        self.forwarded.clear()

    def reset_commit(self) -> None:
        """Forget that a commit was asked for."""
        self.committed = False

    def close(self) -> None:
        """Close the stores."""
        self._state.close()
