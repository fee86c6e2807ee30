"""The behaviour of foreign-key joins (KIP-213), in the order in which a change of the left table passes through.

The left side subscribes to the row it refers to; the right side keeps subscriptions, answers them, and tells all
subscribers when its row changes; back on the left side, an answer counts only if the row has not changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import frozen

from streamlet.dsl.change import Change
from streamlet.dsl.foreign_key_wire import Instruction, Response, Subscription, combined_key, key_prefix
from streamlet.dsl.murmur3 import murmur3_128
from streamlet.dsl.table_steps import TableView
from streamlet.processor.operator import Forward, NodeContext, Operator
from streamlet.records import Headers
from streamlet.serdes import Serde

# Members of an enum are slow to look up and to compare.
_DELETE, _DELETE_AND_TELL = int(Instruction.DELETE), int(Instruction.DELETE_AND_TELL)
_ANSWER, _ANSWER_IF_FOUND = int(Instruction.ANSWER), int(Instruction.ANSWER_IF_FOUND)
_OUT_OF_ORDER = "out-of-order update of a versioned table"


@frozen
class Subscribe(Operator):
    """Turns changes of the left table into subscriptions, by foreign key.

    Inner join: a foreign key that changed is unsubscribed without a word, the answer for the new one tells, also if
    there is no row. Left join: the answer for the old one tells that the row has gone, then comes the new one, so that
    a row without a right side may be sent in between; a row that refers to nothing is sent with a key of None.
    Foreign keys are compared by their bytes.
    """

    extractor: Callable[[Any], Any]
    foreign_key_serde: Serde[Any]
    value_serde: Serde[Any]
    left: bool

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        extractor, encode_key, encode = self.extractor, self.foreign_key_serde.serialize, self.value_serde.serialize
        left, dropped, failed, partition = self.left, context.dropped, context.failed, context.task_id.partition

        def instructions(old: Any, new: Any, key_changed: bool, deleted: bool) -> list[tuple[Any, Instruction]]:
            if left:
                told = [(old, Instruction.DELETE_AND_TELL)] if old is not None and key_changed else []
                return [*told, (new, Instruction.ANSWER)]
            if new is None:
                if not deleted:
                    dropped("null foreign key")
                return [] if old is None else [(old, Instruction.DELETE_AND_TELL)]
            if old is None:
                return [(new, Instruction.ANSWER_IF_FOUND)]
            unsubscribed = [(old, Instruction.DELETE)] if key_changed else []
            return [*unsubscribed, (new, Instruction.ANSWER)]

        def subscribe(key: Any, change: Change, timestamp: int, headers: Headers) -> None:
            new_value, old_value, latest = change
            if not latest:
                dropped(_OUT_OF_ORDER)
                return
            if new_value is None and old_value is None:
                return
            try:
                old = None if old_value is None else extractor(old_value)
                new = None if new_value is None else extractor(new_value)
                changed = (None if old is None else encode_key(old)) != (None if new is None else encode_key(new))
                hash = None if new_value is None else murmur3_128(encode(new_value))
            except Exception as error:
                failed(error, key, new_value, timestamp, headers)
                return
            for foreign_key, instruction in instructions(old, new, changed, new_value is None):
                forward(foreign_key, Subscription(hash, instruction, key, partition), timestamp, headers)

        return subscribe


@frozen
class KeepSubscription(Operator):
    """Keeps subscriptions under foreign and primary key, or deletes them, and sends them on."""

    store: str
    foreign_key_serde: Serde[Any]
    primary_key_serde: Serde[Any]

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        put, dropped = context.store(self.store).fast_put, context.dropped
        encode_foreign, encode_primary = self.foreign_key_serde.serialize, self.primary_key_serde.serialize

        def keep(key: Any, subscription: Subscription, timestamp: int, headers: Headers) -> None:
            instruction = subscription.instruction
            if key is None:
                if instruction != _ANSWER:
                    dropped("null foreign key")
                    return
            else:
                place = combined_key(encode_foreign(key), encode_primary(subscription.primary_key))
                put(place, None if instruction in (_DELETE, _DELETE_AND_TELL) else subscription, timestamp)
            forward(key, subscription, timestamp, headers)

        return keep


@frozen
class AnswerSubscription(Operator):
    """Answers subscriptions with the row they refer to."""

    right: TableView

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        get = self.right.open(context)

        def answer(key: Any, subscription: Subscription, timestamp: int, headers: Headers) -> None:
            hash, instruction, primary_key, partition = subscription
            if instruction == _DELETE:
                return
            row = None if key is None else get(key)
            if row is None and instruction == _ANSWER_IF_FOUND:
                return
            time = timestamp if row is None else max(timestamp, row[1])
            value = None if row is None or instruction == _DELETE_AND_TELL else row[0]
            forward(primary_key, Response(hash, value, partition), time, headers)

        return answer


@frozen
class TellSubscribers(Operator):
    """Sends a change of the right table to all that subscribed to its key."""

    store: str
    foreign_key_serde: Serde[Any]

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        store, encode = context.store(self.store), self.foreign_key_serde.serialize
        dropped = context.dropped

        def tell(key: Any, change: Change, timestamp: int, headers: Headers) -> None:
            if key is None or not change[2]:
                dropped("null key" if key is None else _OUT_OF_ORDER)
                return
            with store.prefix_scan(key_prefix(encode(key))) as subscriptions:
                for _, (subscription, _) in subscriptions:
                    answer = Response(subscription.hash, change[0], subscription.partition)
                    forward(subscription.primary_key, answer, timestamp, headers)

        return tell


@frozen
class ResolveResponse(Operator):
    """Joins an answer with the row that asked, if that has not changed since."""

    joiner: Callable[[Any, Any], Any]
    left_view: TableView
    value_serde: Serde[Any]
    left: bool

    def compile(self, context: NodeContext, forward: Forward) -> Forward:
        """Return the function."""
        get, joiner, encode, left = self.left_view.open(context), self.joiner, self.value_serde.serialize, self.left
        failed = context.failed

        def resolve(key: Any, response: Response, timestamp: int, headers: Headers) -> None:
            row = get(key)
            if response.hash != (None if row is None else murmur3_128(encode(row[0]))):
                return  # the row has changed: the answer to its newer subscription is on its way
            if row is None or (response.value is None and not left):
                forward(key, None, timestamp, headers)
                return
            try:
                joined = joiner(row[0], response.value)
            except Exception as error:
                failed(error, key, row[0], timestamp, headers)
                return
            forward(key, joined, timestamp, headers)

        return resolve
