"""The command line, on an embedded file and on a broker."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streamlet.cli import main
from tests.cli.application import APPLICATION, feed


def test_produce_consume_and_topics(
    servers: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STREAMLET_BOOTSTRAP_SERVERS", servers)
    assert main(["topics", "--create", "numbers", "-p", "2"]) == 0
    feed(monkeypatch, "a=1\nb=2\na=gone\n")
    assert main(["produce", "numbers", "-s", "=", "--value", "int64", "--null", "gone"]) == 0
    capsys.readouterr()
    assert main(["consume", "numbers", "--value", "int64", "--exit"]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == ["a\t1", "a\tnull", "b\t2"]
    assert main(["consume", "numbers", "--value", "int64", "-n", "1", "--offsets"]) == 0
    _, offset, timestamp, key, value = capsys.readouterr().out.rstrip().split("\t")
    assert (int(offset), key in "ab", value in ("1", "2")) == (0, True, True)
    assert int(timestamp) > 1_000_000_000_000
    assert main(["topics"]) == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["TOPIC", "PARTITIONS", "OFFSETS"]
    assert line.split() == ["numbers", "2", "3"]
    assert main(["topics", "--delete", "numbers"]) == 0
    assert main(["topics"]) == 0
    assert "numbers" not in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("kind", "text", "shown"),
    [
        ("json", '{"a": [1, null]}', '{"a":[1,null]}'),
        ("float64", "1.5", "1.5"),
        ("int32", "-7", "-7"),
        ("uuid", "12345678-1234-5678-1234-567812345678", "12345678-1234-5678-1234-567812345678"),
        ("hex", "00ff", "00ff"),
    ],
)
def test_formats(
    servers: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str, text: str, shown: str
) -> None:
    feed(monkeypatch, text + "\n")
    assert main(["produce", "t", "-b", servers, "--value", kind]) == 0
    assert main(["consume", "t", "-b", servers, "--value", kind, "-e"]) == 0
    assert capsys.readouterr().out == f"null\t{shown}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["topics"], "which log? Give --bootstrap-servers"),
        (["topics", "-b", "embedded:", "-X", "nonsense"], "not of the form KEY=VALUE"),
        (["topics", "-b", "embedded:", "-X", "comit.interval.ms=3"], "did you mean commit.interval.ms?"),
        (["describe", "nothing"], "not of the form MODULE:TOPOLOGY"),
        (["describe", "no_such_module:topology"], "there is no module 'no_such_module'"),
        (["describe", "no_such_file.py:topology"], "there is no file no_such_file.py"),
        (["consume", "missing", "-b", "127.0.0.1:1", "-X", "consumer.socket.timeout.ms=500"], "streamlet: "),
        (["consume", "t", "-b", "embedded:", "-n", "0"], "--max-messages must be at least 1"),
    ],
)
def test_errors_are_one_line_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    monkeypatch.delenv("STREAMLET_BOOTSTRAP_SERVERS", raising=False)
    assert main(arguments) in (1, 2)
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("streamlet: ")
    assert error.count("\n") == 1


def test_a_line_that_does_not_fit_is_named(
    servers: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, "1\nx\n")
    assert main(["produce", "t", "-b", servers, "--value", "int64"]) == 2
    assert "line 2 is not of the format" in capsys.readouterr().err
    feed(monkeypatch, "nokey\n")
    assert main(["produce", "t", "-b", servers, "-s", ":"]) == 2
    assert "line 1 has no separator" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["topology", "builder", "make"])
def test_describe_takes_topologies_builders_and_functions(
    application: str, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["describe", f"{application}:{name}"]) == 0
    assert capsys.readouterr().out.startswith("Topologies:\n   Sub-topology: 0\n")
    assert main(["describe", f"{application}.py:{name}", "--format", "mermaid"]) == 0
    assert main(["describe", f"{application}:{name}", "--format", "dot"]) == 0
    assert "digraph" in capsys.readouterr().out


def test_describe_refuses_other_things(application: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", f"{application}:number"]) == 2
    assert "is no Topology" in capsys.readouterr().err
    assert main(["describe", f"{application}:absent"]) == 2
    assert "topologies and builders in it: builder, topology" in capsys.readouterr().err


def run_and_count(directory: Path, application: str, servers: str, suffix: str, *more: str) -> list[str]:
    """Run the application in a process, feed it from another, and stop it with SIGTERM; returns what it said."""
    command = [sys.executable, "-m", "streamlet"]
    options: dict[str, Any] = {"cwd": directory, "text": True, "stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    app = subprocess.Popen([*command, "run", f"{application}:topology", "-b", servers, *more], **options)
    said: list[str] = []
    try:
        assert app.stderr is not None
        for line in app.stderr:
            said.append(line)
            if "REBALANCING -> RUNNING" in line:
                break
        else:
            raise AssertionError("".join(said))
        produced = subprocess.run(
            [*command, "produce", f"lines{suffix}", "-b", servers],
            input="a b a\n", cwd=directory, text=True, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert produced.returncode == 0, produced.stderr
        consumed = subprocess.run(
            [*command, "consume", f"counts{suffix}", "-b", servers, "--value", "int64", "-n", "3"],
            cwd=directory, text=True, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert consumed.returncode == 0, consumed.stderr
        assert sorted(consumed.stdout.splitlines()) == ["a\t1", "a\t2", "b\t1"]
        app.send_signal(signal.SIGTERM)
        said += app.stderr.readlines()
        assert app.wait(60) == 0
    finally:
        if app.poll() is None:
            app.kill()
        app.communicate()
    return said


def test_run_on_an_embedded_file(application: str, tmp_path: Path, servers: str) -> None:
    said = run_and_count(tmp_path, application, servers, "", "-X", "processing.guarantee=exactly_once_v2")
    changes = [line.split(" ", 1)[1].strip() for line in said]
    assert changes == [
        "CREATED -> REBALANCING",
        "REBALANCING -> RUNNING",
        "RUNNING -> PENDING_SHUTDOWN",
        "PENDING_SHUTDOWN -> NOT_RUNNING",
    ]


def test_run_on_a_cluster(kafka_cluster: Any, tmp_path: Path) -> None:
    suffix = "-" + kafka_cluster.unique("cli")
    for topic in ("lines", "counts"):
        kafka_cluster.create_topic(topic + suffix)
    (tmp_path / "on_cluster.py").write_text(APPLICATION.format(suffix=suffix))
    said = run_and_count(
        tmp_path,
        "on_cluster",
        kafka_cluster.bootstrap_servers,
        suffix,
        "-a",
        f"app{suffix}",
        "-X",
        f"state.dir={tmp_path}",
    )
    assert any("RUNNING -> PENDING_SHUTDOWN" in line for line in said)


def test_run_says_what_is_missing(
    kafka_cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suffix = "-" + kafka_cluster.unique("cli")
    (tmp_path / "misses.py").write_text(APPLICATION.format(suffix=suffix))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    arguments = ["run", "misses.py:topology", "-b", kafka_cluster.bootstrap_servers, "-a", f"app{suffix}"]
    assert main([*arguments, "-X", "state.dir=s"]) == 1
    assert f"these source topics do not exist: 'lines{suffix}'" in capsys.readouterr().err
