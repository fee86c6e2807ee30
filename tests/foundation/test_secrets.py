"""Errors do not repeat secrets, and nothing builds objects from bytes by itself. With a broker: test_security."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import spigot_topologies
import streamlet
from streamlet import ConfigError, StreamsConfig, StreamsError, Topology
from streamlet.cli import main

SECRET = "s3cret-hunter2"


def test_errors_about_the_configuration_do_not_repeat_it(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    secret = {"sasl.password": SECRET, "ssl.key.pem": SECRET, "producer.sasl.password": SECRET}
    given: dict[Any, Any] = {"application.id": "a", "bootstrap.servers": "localhost:1", **secret}
    config = StreamsConfig.parse(given)
    assert SECRET not in repr(config) + str(config)
    pairs: Any = list(given.items())
    faulty: list[Any] = [
        pairs,
        {**given, "sasl-password": SECRET},
        {**given, "password": SECRET},
        {**given, "consumer.group.id": SECRET},
        {**secret},
    ]
    for fault in faulty:
        with pytest.raises(StreamsError) as raised:
            StreamsConfig.parse(fault)
        assert SECRET not in str(raised.value)
    with pytest.raises(ConfigError) as refused:
        spigot_topologies.start(Topology(), pairs)
    assert SECRET not in str(refused.value)
    assert main(["topics", "-b", "localhost:1", "-X", f"sasl.password:{SECRET}"]) == 2
    (tmp_path / "client").write_text(f"# mine\n\nsasl.password {SECRET}\n")
    assert main(["topics", "-b", "localhost:1", "-F", str(tmp_path / "client")]) == 2
    said = capsys.readouterr().err
    assert "--config number 1 is not of the form" in said
    assert f"line 3 of {tmp_path / 'client'} is not of the form" in said
    assert SECRET not in said
    assert main(["topics", "-b", "localhost:1", "-F", str(tmp_path / "missing")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_nothing_is_unpickled() -> None:
    """No module that builds objects from bytes by itself is imported, and nothing is evaluated."""
    forbidden = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
    found: list[str] = []
    for package in (streamlet, spigot_topologies):
        for path in Path(str(package.__file__)).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names: list[str] = []
                if isinstance(node, ast.Import):
                    names = [alias.name.partition(".")[0] for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
                    names = [node.module.partition(".")[0]]
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                    names = [node.func.id] if node.func.id in ("eval", "exec") else []
                found += [f"{path.name}:{name}" for name in names if name in forbidden or name in ("eval", "exec")]
    assert not found
