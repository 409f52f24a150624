"""The page of benchmarks says what was measured, on what, and at what load; measuring one bench leaves the others alone."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.bench import __main__ as command
from tests.bench import page
from tests.bench.page import Section
from tests.bench.rows import Row

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
NAMES = command.names()
QUIET = Section(
    name="expand",
    when=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    machine="a machine",
    load=0.25,
    seconds=12.4,
    rows=(Row(what="a thing", ours="1 s", beside="2 s | 3 s", against="aim 5 s", note="twice"), Row(what="another", ours="7")),
    cores=2,
)


def test_a_section_says_what_it_measured_when_and_at_what_load() -> None:
    text = QUIET.text()
    assert text.startswith("## expand\n\n" + page.about("expand"))
    assert "Measured 2026-01-02 03:04 UTC in 12 s on a machine; load average 0.25 at the start.\n" in text
    assert "| a thing | 1 s | 2 s \\| 3 s | aim 5 s | twice |\n| another | 7 |  |  |  |\n" in text
    assert "busy" not in text


def test_a_busy_machine_is_called_busy() -> None:
    assert "busy" in replace(QUIET, load=2.0).text()
    assert "busy" not in replace(QUIET, load=1.99).text()
    assert "busy" not in replace(QUIET, load=2.0, cores=4).text()


def test_one_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "benchmarks.md"
    for section in (replace(QUIET, name="ray"), QUIET, replace(QUIET, name="cli")):
        page.write_page(file, section, NAMES)
    before = file.read_text(encoding="utf-8")
    assert re.findall(r"(?m)^## (.+)$", before) == ["cli", "expand", "ray"]
    page.write_page(file, QUIET, NAMES)
    assert file.read_text(encoding="utf-8") == before
    page.write_page(file, replace(QUIET, load=0.5), NAMES)
    after = file.read_text(encoding="utf-8")
    assert [a for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b] == [
        "Measured 2026-01-02 03:04 UTC in 12 s on a machine; load average 0.25 at the start."
    ]
    page.write_page(file, QUIET, [name for name in NAMES if name != "ray"])
    assert re.findall(r"(?m)^## (.+)$", file.read_text(encoding="utf-8")) == ["cli", "expand"]


def test_the_machine_is_named(tmp_path: Path) -> None:
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nmodel name\t: Some Processor @ 3 GHz\nflags\t: x\n", encoding="utf-8")
    assert page.cpu_model(listing) == "Some Processor @ 3 GHz"
    assert page.cpu_model(tmp_path / "absent")
    assert re.search(r"\d+ cores, \d+ GiB; \w+, Python 3\.\d+\.\d+, torch \d", page.machine())


def test_a_bench_runs_in_a_process_of_its_own_with_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "tests" / "bench"
    folder.mkdir(parents=True)
    (folder / "bench_made.py").write_text(
        "import os\nfrom tests.bench.rows import Row\n\n\ndef measure() -> list[Row]:\n    print('noise')\n"
        "    return [Row(what=str(os.getpid()), ours=os.environ['OPENBLAS_NUM_THREADS'])]\n",
        encoding="utf-8",
    )
    (folder / "bench_broken.py").write_text("def measure():\n    raise RuntimeError('it broke')\n", encoding="utf-8")
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    section = command.section_of("made")
    assert section is not None and section.name == "made" and section.seconds > 0 and section.load >= 0
    assert [row.ours for row in section.rows] == ["1"]
    assert int(section.rows[0].what) != os.getpid()
    assert command.section_of("broken") is None
    assert "it broke" in capfd.readouterr().err


def test_what_fails_is_told_and_stays_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "benchmarks.md"
    page.write_page(file, replace(QUIET, name="ray"), NAMES)
    monkeypatch.setattr(command, "PAGE", file)
    monkeypatch.setattr(command, "section_of", lambda name: QUIET if name == "expand" else None)
    assert command.main(["expand"]) == 0
    assert "| a thing |" in capsys.readouterr().out
    assert command.main(["expand", "ray"]) == 1
    assert "left as they were on the page: ray" in capsys.readouterr().err
    assert re.findall(r"(?m)^## (.+)$", file.read_text(encoding="utf-8")) == ["expand", "ray"]


def test_an_unknown_bench_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["expnd"]) == 2
    assert "there are " + ", ".join(NAMES) in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_every_bench_returns_rows_and_is_on_the_page(name: str) -> None:
    assert importlib.util.find_spec(f"tests.bench.bench_{name}") is not None
    tree = ast.parse((FOLDER / f"bench_{name}.py").read_text(encoding="utf-8"))
    measures = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "measure"]
    assert [ast.unparse(node.returns) for node in measures if node.returns] == ["list[Row]"]
    assert len(page.about(name)) > 60
    written = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    body = re.split(r"(?m)^## ", written.split(f"\n## {name}\n")[1])[0]
    assert re.search(r"Measured \d{4}-\d\d-\d\d .* load average \d", body)
    assert len(re.findall(r"(?m)^\| ", body)) >= 3
