"""The code in README and docs runs, and prints what it says it prints.

Blocks of one document run in order, in a directory of their own:

- ``python``: executed, in one namespace per document. A block that begins with ``# name.py`` is written to that file.
- ``console``: lines that begin with ``$`` are run by bash, and what follows them must be their output. A command that
  ends with ``&`` runs in the background; in the end it gets SIGTERM, and must then end with success.
- ``bash``: not run (clusters, make).
"""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Document, Example, Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown import CodeBlockParser

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "examples" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SECONDS = 60


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


class Shell:
    """Runs the commands of ``console`` blocks in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        self.background: list[tuple[str, subprocess.Popen[bytes]]] = []

    def block(self, text: str) -> None:
        """Run a block."""
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, expected = part.partition("\n")
            if command.endswith(" &"):
                self.start(command.removesuffix(" &"))
            else:
                assert self.run(command).rstrip("\n") == expected.rstrip("\n"), command

    def start(self, command: str) -> None:
        """Run a command in the background."""
        process = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=self.directory, env=self.environment)
        self.background.append((command, process))

    def run(self, command: str) -> str:
        """Run a command, and return its output."""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def end(self) -> None:
        """End what runs in the background, as SIGTERM from a service manager does."""
        for command, process in self.background:
            assert process.poll() is None, f"{command} has ended by itself, with {process.returncode}"
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0, command

    def kill(self) -> None:
        """Leave nothing behind, whatever happened."""
        for _, process in self.background:
            process.kill()
            process.wait()


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    shell = Shell(tmp_path)
    yield shell
    shell.kill()


def parse(path: Path, shell: Shell) -> Document:
    execute = PythonEvaluator()

    def python(example: Example) -> None:
        name = re.match(r"# (\w+\.py)\n", example.parsed)
        if name is None:
            execute(example)
        else:
            (shell.directory / name[1]).write_text(example.parsed)

    def console(example: Example) -> None:
        shell.block(example.parsed)

    return Sybil([CodeBlockParser("python", python), CodeBlockParser("console", console)]).parse(path)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_the_code_runs(path: Path, shell: Shell) -> None:
    for example in parse(path, shell).examples():
        example.evaluate()
    shell.end()


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", [*DOCUMENTS, ROOT / "CONTRIBUTING.md"], ids=name_of)
def test_paths_that_are_named_exist(path: Path) -> None:
    named = re.findall(r"`((?:streamlet|spigot_topologies|tests|examples|docs|benchmarks)/[\w./-]*)`", path.read_text())
    assert not [name for name in named if not (ROOT / name).exists()]


def test_tests_that_are_named_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", "".join(path.read_text() for path in DOCUMENTS)))
    there = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for name in named if f"def {name}(" not in there]


def test_the_reference_of_the_configuration_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("configuration", ROOT / "docs" / "configuration.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "configuration.md").read_text() == module.text(), "run: python docs/configuration.py"
