"""Clients of the embedded log that fail as librdkafka's do (docs/runtime-findings.md), when the schedule says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import ListOffsetsResultInfo

from streamlet.clients.embedded import EmbeddedSupplier
from streamlet.clients.embedded.consumer import Consumer
from streamlet.clients.embedded.message import ErrorMessage
from streamlet.clients.embedded.message import Message as LogMessage
from streamlet.clients.embedded.producer import Producer


class Machine(Protocol):
    """The instance a client belongs to, as far as its clients are concerned."""

    exactly_once: bool

    def call(self, what: str) -> None:
        """Before each call: time passes, others run, the machine may die here."""

    def chance(self, what: str) -> bool:
        """Whether this fault happens now."""

    def pick(self, choices: Sequence[Any]) -> Any:
        """One of them."""

    def wait(self, seconds: float) -> None:
        """Time passes."""


def _raise(code: int, text: str, *, retriable: bool = False, fatal: bool = False, abort: bool = False) -> None:
    raise KafkaException(KafkaError(code, f"simulated: {text}", fatal, retriable, abort))


class FaultyConsumer:
    """A consumer in the group, or outside."""

    def __init__(self, machine: Machine, inner: Consumer) -> None:
        self.machine = machine
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.machine.call(f"consumer.{name}")
            return method(*args, **kwargs)

        return call

    def subscribe(self, topics: list[str], **callbacks: Callable[[Any, list[TopicPartition]], None]) -> None:
        wrapped = {name: self._wrapped(callback) for name, callback in callbacks.items()}
        self.machine.call("consumer.subscribe")
        self.inner.subscribe(topics, **wrapped)

    def _wrapped(self, callback: Callable[[Any, list[TopicPartition]], None]) -> Any:
        return lambda _, partitions: callback(self, partitions)

    def consume(self, num_messages: int = 1, timeout: float = -1) -> Sequence[Any]:
        machine = self.machine
        machine.call("consumer.consume")
        if machine.exactly_once and self.inner._member is not None and machine.chance("expelled"):
            self.expel()
        if machine.chance("consume nothing"):
            machine.wait(max(timeout, 0))
            return []
        if machine.chance("consume error"):
            code = machine.pick([KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._RESOLVE])
            return [ErrorMessage(KafkaError(code, "simulated"))]
        if num_messages > 1 and machine.chance("consume few"):
            num_messages = machine.pick([1, 2, 5])
        found = self.inner.consume(num_messages, 0)
        if not found and timeout > 0:
            machine.wait(timeout)
            found = self.inner.consume(num_messages, 0)
        return found

    def expel(self) -> None:
        """The group goes on without this member; it does not know yet."""
        member = self.inner._member
        if member is not None:
            with self.inner._log.lock:
                member.expelled = True
                self.inner._group.leave(member)

    def committed(self, partitions: list[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        self.machine.call("consumer.committed")
        if self.machine.chance("committed times out"):
            self.machine.wait(timeout)
            _raise(KafkaError._TIMED_OUT, "committed")
        return self.inner.committed(partitions, timeout)

    def get_watermark_offsets(self, partition: TopicPartition, **options: Any) -> tuple[int, int]:
        self.machine.call("consumer.watermarks")
        if not options.get("cached") and self.machine.chance("watermarks time out"):
            _raise(KafkaError._TIMED_OUT, "watermarks")
        return self.inner.get_watermark_offsets(partition, **options)

    def commit(self, **options: Any) -> Any:
        self.machine.call("consumer.commit")
        if self.machine.chance("commit refused"):
            kind = self.machine.pick(["rebalance", "timeout", "done", "generation", "partition"])
            if kind == "rebalance":
                _raise(KafkaError.REBALANCE_IN_PROGRESS, "commit")
            if kind == "generation":
                _raise(KafkaError.ILLEGAL_GENERATION, "commit")
            if kind == "partition":
                error = KafkaError(KafkaError.NOT_COORDINATOR, "simulated", False, True)
                return [_Refused(options["offsets"][0], error)]
            if kind == "done":
                self.inner.commit(**options)
            _raise(KafkaError._TIMED_OUT, "commit", retriable=True)
        result = self.inner.commit(**options)
        self.machine.call("consumer.commit returns")
        return result

    def close(self) -> None:
        self.machine.call("consumer.close")
        self.inner.close()


class _Refused:
    """A partition in the answer to a commit."""

    def __init__(self, partition: TopicPartition, error: KafkaError) -> None:
        self.topic, self.partition, self.offset, self.error = (
            partition.topic, partition.partition, partition.offset, error,
        )  # fmt: skip


class FaultyTransactional:
    """A transactional producer."""

    def __init__(self, machine: Machine, inner: Producer) -> None:
        self.machine = machine
        self.inner = inner
        self._initialised = False
        self._pending: str | None = None  # a call whose outcome was not told
        self._outcome: Callable[[], None] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def _maybe_fence(self) -> None:
        """The coordinator times the transaction out, or another one has taken the id."""
        if self.machine.chance("fenced"):
            self.inner._log.next_producer_epoch(self.inner._transactional_id)

    def _maybe_fail(self) -> None:
        """Something of the transaction was refused: it can only be aborted."""
        if self.inner._state == "InTransaction" and self._pending is None and self.machine.chance("abortable"):
            code = self.machine.pick(
                [KafkaError.INVALID_PRODUCER_ID_MAPPING, KafkaError.UNKNOWN_PRODUCER_ID, KafkaError._INCONSISTENT,
                 KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID]
            )  # fmt: skip
            self.inner._fail(KafkaError(code, "simulated", False, False, True))

    def _maybe_refuse(self) -> None:
        """A record was refused, for once: the batch is replayed record by record, and all of it is taken then."""
        if self.inner._state == "InTransaction" and self._pending is None and self.machine.chance("record refused"):
            code = self.machine.pick([KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.UNKNOWN_TOPIC_OR_PART])
            self.inner._fail(KafkaError(code, "simulated", False, False, True))

    def _conflict(self, name: str) -> None:
        if self._pending is not None and self._pending != name:
            _raise(KafkaError._CONFLICT, f"{name} while {self._pending} is under way", retriable=True)

    def produce(self, *args: Any, **kwargs: Any) -> None:
        self.machine.call("producer.produce")
        if self.machine.chance("queue full"):
            raise BufferError("simulated: queue full")
        self._maybe_fail()
        if self.inner._state == "AbortableError":
            _raise(KafkaError._STATE, "produce in a failed transaction")
        self.inner.produce(*args, **kwargs)

    def poll(self, timeout: float = -1) -> int:
        self.machine.call("producer.poll")
        if self.inner._state == "FatalError" and self.machine.chance("system error"):
            raise SystemError("simulated: returned NULL without setting an exception")
        self.machine.wait(max(timeout, 0))
        return self.inner.poll(0)

    def init_transactions(self, timeout: float = -1) -> None:
        self._twice("init_transactions", self.inner.init_transactions, timeout)

    def begin_transaction(self) -> None:
        self.machine.call("producer.begin")
        self._conflict("begin_transaction")
        self._maybe_fence()
        self.inner.begin_transaction()

    def send_offsets_to_transaction(self, positions: list[TopicPartition], metadata: Any, timeout: float = -1) -> None:
        self.machine.call("producer.send_offsets")
        self._maybe_fence()
        self._maybe_fail()
        if self.machine.chance("send_offsets fails"):
            if self.machine.pick([True, False]):
                self.inner.send_offsets_to_transaction(positions, metadata)
            self.machine.wait(10.0)
            _raise(KafkaError._TRANSPORT, "send_offsets", retriable=True)
        self.inner.send_offsets_to_transaction(positions, metadata)
        self.machine.call("producer.send_offsets returns")

    def commit_transaction(self, timeout: float = -1) -> None:
        self._maybe_fence()
        self._maybe_fail()
        self._maybe_refuse()

        def commit() -> None:
            self.inner.commit_transaction()
            if self.machine.chance("committed, but fenced before it knew"):
                self.inner._log.next_producer_epoch(self.inner._transactional_id)
                self.inner._state = "FatalError"
                self.inner._failure = KafkaError(KafkaError._FENCED, "simulated: committed", True)
                raise KafkaException(self.inner._failure)

        self._twice("commit_transaction", commit, timeout)

    def abort_transaction(self, timeout: float = -1) -> None:
        self._maybe_fence()
        self._twice("abort_transaction", self.inner.abort_transaction, timeout)

    def _twice(self, name: str, call: Callable[[], None], timeout: float) -> None:
        """A call that may time out before or after it was done; only the same call again tells."""
        self.machine.call(f"producer.{name}")
        self._conflict(name)
        if self._pending is None:
            self._outcome = None
        if self.machine.chance(f"{name} times out"):
            self._pending = name
            if self._outcome is None and self.machine.pick([True, False]):
                self._outcome = _outcome(call)
            self.machine.wait(max(timeout, 0))
            _raise(KafkaError._TIMED_OUT, name, retriable=True)
        outcome, self._outcome, self._pending = self._outcome or call, None, None
        outcome()
        self.machine.call(f"producer.{name} returns")


def _outcome(call: Callable[[], None]) -> Callable[[], None]:
    """Do it, and keep how it went."""
    try:
        call()
    except KafkaException as error:
        failure = error

        def again() -> None:
            raise failure

        return again
    return lambda: None


class FaultyPlain:
    """A producer without transactions."""

    def __init__(self, machine: Machine, inner: Producer) -> None:
        self.machine = machine
        self.inner = inner
        self._reports: list[Callable[[], None]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def produce(
        self, topic: str, value: Any = None, key: Any = None, partition: int = -1, callback: Any = None, *rest: Any,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        self.machine.call("producer.produce")
        if self.machine.chance("queue full"):
            raise BufferError("simulated: queue full")
        refused = self.machine.chance("record refused")
        if refused or self.machine.chance("not delivered"):
            report = callback or self.inner._on_delivery
            code = KafkaError.MSG_SIZE_TOO_LARGE if refused else KafkaError._MSG_TIMED_OUT
            error = KafkaError(code, "simulated")
            if self.machine.pick([True, False]):
                self.inner.produce(topic, value, key, partition, lambda *_: None, *rest, **kwargs)
            message = LogMessage(topic, max(partition, 0), None, key, value, 1, None, 1, None)
            if report is not None:
                self._reports.append(lambda: report(error, message))
            return
        self.inner.produce(topic, value, key, partition, callback, *rest, **kwargs)

    def poll(self, timeout: float = -1) -> int:
        self.machine.call("producer.poll")
        self.machine.wait(max(timeout, 0))
        if self.machine.pick([True, False]):  # what lingers is sent some time
            self.inner.send()
        return self._serve() + self.inner.poll(0)

    def flush(self, timeout: float = -1) -> int:
        self.machine.call("producer.flush")
        if len(self.inner) and self.machine.chance("flush times out"):
            self.machine.wait(timeout)
            self._serve()
            return max(len(self.inner), 1)
        left = self.inner.flush(timeout)
        self._serve()
        self.machine.call("producer.flush returns")
        return left

    def _serve(self) -> int:
        reports, self._reports = self._reports, []
        for report in reports:
            report()
        return len(reports)

    def purge(self, *args: Any, **kwargs: Any) -> None:
        self.machine.call("producer.purge")
        if self.machine.chance("sent before the purge"):
            self.inner.send()
        self.inner.purge(*args, **kwargs)

    def __len__(self) -> int:
        return len(self.inner)

    def break_off(self) -> None:
        """The machine died: of what was queued, an initial part had gone out."""
        keep = self.machine.pick(range(len(self.inner._queue) + 1))
        while len(self.inner._queue) > keep:
            self.inner._queue.pop()
        self.inner.send()


class FaultyAdmin:
    """An admin client."""

    def __init__(self, machine: Machine, inner: Any) -> None:
        self.machine = machine
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.inner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.machine.call(f"admin.{name}")
            return method(*args, **kwargs)

        return call

    def list_offsets(self, wanted: Mapping[TopicPartition, Any], **options: Any) -> Any:
        self.machine.call("admin.list_offsets")
        found = self.inner.list_offsets(wanted, **options)
        if found and self.machine.chance("list_offsets fails"):
            place = self.machine.pick(list(found))
            failed: Future[Any] = Future()
            kind = self.machine.pick(["epoch", "frozen", "timeout"])
            if kind == "frozen":
                failed.set_result(ListOffsetsResultInfo(-1001, -1, -1))
            else:
                code = KafkaError.FENCED_LEADER_EPOCH if kind == "epoch" else KafkaError._TIMED_OUT
                failed.set_exception(KafkaException(KafkaError(code, "simulated")))
            found[place] = failed
        return found


class FaultySupplier:
    """Gives a machine its clients, and remembers them."""

    def __init__(self, machine: Machine, inner: EmbeddedSupplier) -> None:
        self.machine = machine
        self.inner = inner
        self.consumers: list[FaultyConsumer] = []
        self.plain: list[FaultyPlain] = []

    def consumer(self, config: Mapping[str, Any]) -> FaultyConsumer:
        self.machine.call("consumer")
        consumer = FaultyConsumer(self.machine, self.inner.consumer(config))
        self.consumers.append(consumer)
        return consumer

    def producer(self, config: Mapping[str, Any]) -> Any:
        self.machine.call("producer")
        inner = self.inner.producer({**config, "linger.ms": 10_000_000})
        if "transactional.id" in config:
            return FaultyTransactional(self.machine, inner)
        producer = FaultyPlain(self.machine, inner)
        self.plain.append(producer)
        return producer

    def admin(self, config: Mapping[str, Any]) -> FaultyAdmin:
        return FaultyAdmin(self.machine, self.inner.admin(config))
