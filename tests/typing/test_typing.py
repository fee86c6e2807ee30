"""The public signatures under mypy and pyright, both strict: what must be an error is one, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
EXAMPLES = sorted(HERE.glob("*_api.py"))


def _marked(path: Path) -> set[int]:
    return {number for number, line in enumerate(path.read_text().splitlines(), 1) if re.search(r"# E(:|$)", line)}


def _mypy(path: Path, cache: Path) -> dict[int, str]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(cache), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = re.findall(rf"^{re.escape(str(path.relative_to(ROOT)))}:(\d+): error: (.*)$", done.stdout, re.MULTILINE)
    return {int(line): message for line, message in found}


def _pyright(path: Path) -> dict[int, str]:
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    found = [d for d in json.loads(done.stdout)["generalDiagnostics"] if d["severity"] == "error"]
    return {d["range"]["start"]["line"] + 1: d["message"] for d in found}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_errors_are_where_they_are_marked(path: Path, checker: str, tmp_path: Path) -> None:
    if checker == "mypy":
        errors = _mypy(path, tmp_path / "cache")
    else:
        errors = _pyright(path)
    marked = _marked(path)
    unexpected = {line: message for line, message in errors.items() if line not in marked}
    assert unexpected == {}, f"{checker} finds errors where there are none"
    assert sorted(errors) == sorted(marked), f"{checker} misses errors on lines {sorted(marked - set(errors))}"
