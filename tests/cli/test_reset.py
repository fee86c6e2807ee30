"""``streamlet reset`` as it is typed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from streamlet.cli import main
from streamlet.cli.arguments import topology
from streamlet.runtime.streams import KafkaStreams
from tests.cli.application import feed
from tests.runtime.harness import eventually


def run_until_counted(servers: str, application: str, records: int, **more: str) -> None:
    config: dict[str, Any] = {
        "application.id": application.replace("_", "-"),
        "bootstrap.servers": servers,
        **{key.replace("_", "."): value for key, value in more.items()},
    }
    app = KafkaStreams(topology(f"{application}:topology"), config)
    app.start()
    try:
        eventually(lambda: app.metrics().get("process-total", 0) >= records)
    finally:
        app.close()


@pytest.fixture
def stopped(
    servers: str,
    application: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """An application that has counted two words, and was stopped."""
    monkeypatch.setenv("STREAMLET_BOOTSTRAP_SERVERS", servers)
    feed(monkeypatch, "a b\n")
    assert main(["produce", "lines"]) == 0
    run_until_counted(servers, application, 3)
    capsys.readouterr()
    return application


def test_a_dry_run_says_what_the_reset_then_does(
    stopped: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = stopped.replace("_", "-")
    directory = tmp_path / "log.db.state" / name
    command = ["reset", f"{stopped}:topology", "--clean-local-state"]
    assert main([*command, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines() == [
        "would set the offset of lines[0]: 1 -> 0",
        f"would delete topic {name}-counts-changelog",
        f"would delete topic {name}-counts-repartition",
        f"would delete topic {name}-tasks",
        f"would delete the state of task 1_0 in {directory}",
    ]
    assert main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out == said, "a dry run changes nothing"
    assert main(command) == 0
    done = said.replace("would set", "set").replace("would delete", "deleted")
    assert capsys.readouterr().out == done
    assert not any((directory / "tasks").iterdir())
    assert main(["topics"]) == 0
    topics = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert topics == ["counts", "lines"]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines() == ["set the offset of lines[0]: 0 -> 0"]


def test_local_state_is_left_alone_unless_asked_for(stopped: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reset", "--application-id", stopped.replace("_", "-"), "--to-latest"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "set the offset of lines[0]: 1 -> 1"
    assert lines[-1].startswith("left alone: the state in ")
    assert lines[-1].endswith("which is rebuilt; --clean-local-state deletes it")


def test_an_application_that_never_ran_has_nothing_to_reset(
    servers: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["reset", "-a", "nobody", "-b", servers]) == 0
    assert capsys.readouterr().out == "application nobody has nothing to reset\n"


def test_a_running_application_is_refused(
    stopped: str,
    servers: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = stopped.replace("_", "-")
    config = {"application.id": name, "bootstrap.servers": servers}
    with KafkaStreams(topology(f"{stopped}:topology"), config) as app:
        app.start()
        assert app.wait_until_running(timedelta(seconds=60))
        assert main(["reset", f"{stopped}:topology"]) == 1
    error = capsys.readouterr().err
    assert f"application {name} is running on " in error
    assert "stop all of its instances" in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["reset", "-b", "embedded:"], "which application? Give MODULE:TOPOLOGY or --application-id"),
        (["reset", "-a", "x", "-b", "embedded:", "--by-duration", "soon"], "write 1d12h, 30m or PT15M"),
        (["reset", "-a", "x", "-b", "embedded:", "--to-datetime", "soon"], "is no time: write 2013-02-08T06:00:00"),
        (["reset", "-a", "x", "-b", "embedded:", "--to-offset", "-1"], "--to-offset must be from 0 on"),
        (["reset", "-a", "x", "-b", "embedded:", "--internal-topics", "y"], "y: not among the internal topics"),
        (["reset", "-a", "x", "-b", "127.0.0.1:1"], "no broker answers at 127.0.0.1:1 within 1 s"),
    ],
)
def test_what_is_wrong_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setattr("streamlet.runtime.internal_topics._TIMEOUT_SECONDS", 1.0)
    assert main(arguments) in (1, 2)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("where", "offset"),
    [
        (["--to-datetime", "2013-02-08T06:00:00"], 1),
        (["--to-datetime", "2013-02-08T07:00:01+01:00"], 2),
        (["--by-duration", "1s"], 3),
        (["--by-duration", "P9999D"], 0),
        (["--to-offset", "2"], 2),
    ],
)
def test_positions(
    servers: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: list[str],
    offset: int,
) -> None:
    from streamlet.clients import supplier_for

    monkeypatch.setenv("STREAMLET_BOOTSTRAP_SERVERS", servers)
    producer = supplier_for(servers).producer({})
    for timestamp in (1360216800000, 1360303200000, 1360303201000):  # 6:00 on two days, and a second later
        producer.produce("flights", b"", timestamp=timestamp)
        producer.flush()
    assert main(["reset", "-a", "delays", "--input-topics", "flights", *where]) == 0
    assert capsys.readouterr().out == f"set the offset of flights[0]: none -> {offset}\n"
