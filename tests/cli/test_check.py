"""``streamlet check`` and the description it reads."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from streamlet.cli import main

PROGRAM = """
from streamlet import StreamsBuilder, Topic, serdes
from names import STORE

lines = Topic("lines", serdes.string, serdes.string)
builder = StreamsBuilder()
stream = builder.stream(lines){before}
stream.group_by(lambda _, word: word, key_serde=serdes.string).count({argument})
"""


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same program in three versions, in files of the same names: as in three checkouts."""
    for directory, before, argument, store in (
        ("v1", "", "", "unused"),
        ("v2", ".filter(lambda _, line: bool(line))", "", "unused"),
        ("v3", ".filter(lambda _, line: bool(line))", "store=STORE", "KSTREAM-AGGREGATE-STATE-STORE-0000000002"),
    ):
        (tmp_path / directory).mkdir()
        (tmp_path / directory / "program.py").write_text(PROGRAM.format(before=before, argument=argument))
        (tmp_path / directory / "names.py").write_text(f"STORE = {store!r}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_a_step_more_renames_what_has_no_name(versions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "v1/program.py:builder", "v2/program.py:builder"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "store KSTREAM-AGGREGATE-STATE-STORE-0000000002: renamed: it is called "
        "KSTREAM-AGGREGATE-STATE-STORE-0000000003 now"
    )
    assert "store='KSTREAM-AGGREGATE-STATE-STORE-0000000002'" in lines[0]
    assert lines[-1] == "incompatible"
    assert main(["check", "v1/program.py:builder", "v3/program.py:builder"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == (
        "compatible: stop all instances of the old version, then start the new one"
    )


def test_a_saved_description(versions: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "v1/program.py:builder", "--format", "json"]) == 0
    (versions / "v1.json").write_text(capsys.readouterr().out)
    assert main(["check", "v1.json", "v1.json"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "compatible: the same program, which may run beside the old one"
    sys.modules.pop("program", None)
    sys.modules.pop("names", None)
    assert main(["check", "v1.json", "v2/program.py:builder"]) == 1
    store, topic = "KSTREAM-AGGREGATE-STATE-STORE-0000000002", "KSTREAM-AGGREGATE-STATE-STORE-0000000002-repartition"
    assert main(["check", "v1.json", "v2/program.py:builder", "--accept", store, "--accept", topic]) == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "this is no saved description"),
        ("[]", "this is no saved description"),
        ('{"format": 1}', "make one with `streamlet describe --format json MODULE:TOPOLOGY`"),
        ('{"format": 2}', "has format 2, this version of streamlet reads 1: upgrade"),
    ],
)
def test_what_is_no_description(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
    path = tmp_path / "old.json"
    path.write_text(text)
    assert main(["check", str(path), str(path)]) == 1
    assert said in capsys.readouterr().err


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "nowhere.json", "nowhere.json"]) == 2
    assert "nowhere.json cannot be read" in capsys.readouterr().err
