"""The specification, executed slowly: every status is folded from scratch, every search walks the whole tree."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid5

from spigot_topologies.plan import split
from spigot_topologies.values import Char

ENDED = ("success", "failure")


class ModelError(Exception):
    """An expression fails at run time."""


class Node:
    def __init__(self, plan: Any, path: str, parent: Node | None, index: int) -> None:
        self.tag, self.options, self.templates = split(plan)
        self.path, self.parent, self.index = path, parent, index
        self.is_task = not self.tag.startswith("spigot/")
        self.is_loop = self.tag in ("spigot/serialize", "spigot/parallelize")
        self.is_scope = self.is_loop or self.tag == "spigot/isolate"
        self.entered = False
        self.finalised = False
        self.result: str | None = None  # of a task, or of a group that a fault has failed
        self.error: dict[str, Any] | None = None
        self.origin: str | None = None
        self.items: list[Any] = []
        self.bindings: dict[str, Any] = {}
        self.scope: dict[str, Any] = {}
        self.children: list[Node] = []
        if not self.is_task and not self.is_loop:
            self.children = [Node(p, f"{path}.{i}", self, i) for i, p in enumerate(self.templates)]

    def option(self, name: str, default: Any = None) -> Any:
        value = self.options.get(f"spigot/{name}")
        return default if value is None else value

    def status(self) -> str:
        if self.result is not None:
            return self.result
        if self.is_task:
            return "running" if self.entered else "init"
        if self.is_loop and not self.entered:
            return "init"
        if self.tag == "spigot/try":
            body, handler = (child.status() for child in self.children)
            if body != "failure":
                return body
            return handler if handler in ENDED else "running"
        return fold([child.status() for child in self.children], self.entered)

    def nodes(self) -> list[Node]:
        return [self, *(node for child in self.children for node in child.nodes())]

    def post_order(self) -> list[Node]:
        return [*(node for child in self.children for node in child.post_order()), self]

    def above(self) -> list[Node]:
        return [] if self.parent is None else [self.parent, *self.parent.above()]


def fold(statuses: list[str], entered: bool) -> str:
    if not statuses:
        return "success" if entered else "init"
    if "failure" in statuses:
        return "failure"
    for same in ("success", "init"):
        if all(status == same for status in statuses):
            return same
    return "running"


class Model:
    def __init__(self, plan: Any, scope: dict[str, Any], run: UUID) -> None:
        self.root = Node(plan, "r", None, 0)
        self.scope = dict(scope)
        self.run = run

    # --- what is compared

    @property
    def status(self) -> str:
        return self.root.status()

    @property
    def error(self) -> Any:
        return self.root.error if self.status == "failure" else None

    @property
    def running(self) -> list[str]:
        return [node.path for node in self.root.nodes() if node.is_task and node.status() == "running"]

    def next(self) -> list[tuple[str, str, dict[str, Any]]]:
        tasks = []
        self.finalise()
        while (node := self.startable()) is not None:
            node.entered = True
            try:
                if node.is_task:
                    params = self.params(node)
                    tasks.append((node.path, node.tag, params))
                elif node.is_loop:
                    node.items = items_of(evaluate(node.option("for")[1], lambda key: self.read(node, key, root=True)))
                    node.children = [
                        Node(node.templates[0], f"{node.path}.{i}", node, i) for i in range(len(node.items))
                    ]
                elif node.tag == "spigot/isolate":
                    flat = node.option("binding", [])
                    node.bindings = {
                        name: evaluate(value, lambda key: self.read(node, key, root=True))
                        for name, value in zip(flat[::2], flat[1::2], strict=True)
                    }
            except ModelError as fault:
                self.fault(node, fault)
            self.note_failures()
            self.finalise()
        return tasks

    def result(self, path: str, kind: str, value: Any) -> str | None:
        node = next((node for node in self.root.nodes() if node.path == path), None)
        if node is None or not node.entered:
            return "not known"
        if not node.is_task:
            return "not-a-task"
        if node.result is not None:
            return "duplicate" if node.result == kind else "already-finished"
        if self.status in ENDED:
            return "workflow-ended"
        if kind == "failure":
            node.result, node.error, node.origin = kind, value, path
        else:
            try:
                if value is not None and not isinstance(value, dict):
                    raise ModelError("no map")
                written = {
                    name: evaluate(
                        expression,
                        lambda key: value[key] if value and key in value else self.read(node, key, root=False),
                    )
                    for name, expression in node.option("out", {}).items()
                }
                self.write(node, written)
                node.result = kind
            except ModelError as fault:
                self.fault(node, fault)
        self.note_failures()
        return None

    def rerun(self) -> list[tuple[str, str, dict[str, Any]]]:
        running = self.running
        tasks = []
        for node in [node for node in self.root.nodes() if node.path in running]:
            try:
                tasks.append((node.path, node.tag, self.params(node)))
            except ModelError as fault:
                self.fault(node, fault)
                self.note_failures()
        return tasks

    # --- how it comes about

    def startable(self) -> Node | None:
        for node in self.root.nodes():
            if not node.entered and self.may_start(node):
                return node
        return None

    def may_start(self, node: Node) -> bool:
        parent = node.parent
        if parent is None:
            return True
        if not parent.entered or any(above.status() in ENDED for above in node.above()):
            return False
        if parent.tag == "spigot/try":
            return node.index == 0 or parent.children[0].status() == "failure"
        if parent.tag in ("spigot/parallel", "spigot/parallelize"):
            unfinished = [child for child in parent.children if child.status() not in ENDED]
            return node in unfinished[: parent.option("throttle", len(unfinished))]
        return all(child.status() == "success" for child in parent.children[: node.index])

    def finalise(self) -> None:
        for node in self.root.post_order():
            if not node.is_scope or node.finalised or node.status() not in ENDED:
                continue
            node.finalised = True
            if node.status() == "success":
                try:
                    written = {}
                    for name, (_, expression) in node.option("into", {}).items():
                        written[name] = [
                            evaluate(expression, lambda key, child=child: self.read(child, key, root=False))
                            for child in node.children
                        ]
                    for name, expression in node.option("commit", {}).items():
                        child = node.children[0]
                        written[name] = evaluate(expression, lambda key, child=child: self.read(child, key, root=False))
                    self.write(node, written)
                except ModelError as fault:
                    self.fault(node, fault)
                    self.note_failures()
            for child in node.children:
                child.scope = {}

    def note_failures(self) -> None:
        """The error travels up with the status."""
        for node in self.root.post_order():
            if node.error is None and node.status() == "failure":
                failed = [child for child in node.children if child.status() == "failure"]
                node.error, node.origin = failed[-1].error, failed[-1].origin

    def fault(self, node: Node, fault: Exception) -> None:
        node.result, node.origin = "failure", node.path
        node.error = {"message": str(fault), "type": "fault", "path": node.path}

    def params(self, node: Node) -> dict[str, Any]:
        params = evaluate(node.option("in", {}), lambda key: self.read(node, key, root=True))
        if not isinstance(params, dict):
            raise ModelError("no map")
        return params

    def write(self, node: Node, written: dict[str, Any]) -> None:
        for at in [node, *node.above()]:
            if at.parent is not None and at.parent.is_scope:
                if not at.parent.finalised:
                    at.scope.update(written)
                return
        self.scope.update(written)

    def read(self, node: Node, key: str, *, root: bool) -> Any:
        for at in [node, *node.above()]:
            above = at.parent
            if above is None:
                break
            if above.is_scope and key in at.scope:
                return at.scope[key]
            if above.is_loop and above.option("for")[0] == key:
                return above.items[at.index]
            if key in above.bindings:
                return above.bindings[key]
            if above.tag == "spigot/catch" and above.option("error") == key:
                return self.caught(above)
        return self.scope.get(key) if root else None

    def caught(self, node: Node) -> Any:
        for at in [node, *node.above()]:
            if at.parent is not None and at.parent.tag == "spigot/try" and at.index == 1:
                body = at.parent.children[0]
                assert body.error is not None
                assert body.origin is not None
                return {**body.error, "spigot/id": uuid5(self.run, body.origin)}
        return None


def evaluate(expression: Any, lookup: Any) -> Any:
    if type(expression) is tuple:
        head, *arguments = expression
        if head == "spigot/quote":
            return arguments[0]
        values = [evaluate(argument, lookup) for argument in arguments]
        if head == "my/boom":
            raise ModelError("boom")
        return lookup(values[0])
    if isinstance(expression, list):
        return [evaluate(item, lookup) for item in expression]
    if isinstance(expression, dict):
        return {key: evaluate(value, lookup) for key, value in expression.items()}
    return expression


def items_of(value: Any) -> list[Any]:
    if value is None:
        return []
    if type(value) is str:
        return [Char(character) for character in value]
    if isinstance(value, list | tuple):
        return list(value)
    raise ModelError("no items")
