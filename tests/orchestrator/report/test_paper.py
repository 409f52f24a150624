"""Figures as PDF: one page each, vectors with their fonts, what the page shows, the same bytes in every process."""

from __future__ import annotations

import re
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.report.analysis import build
from orchestrator.report.figures.drawing import INK, Figure
from orchestrator.report.figures.paper import pdfs, read_path
from orchestrator.report.figures.svg import Sheet
from orchestrator.report.render import write
from orchestrator.report.values import Report
from tests.orchestrator.report.made_run import quickstart

AGAIN = """
import hashlib, sys
from pathlib import Path
from orchestrator.report import record
from orchestrator.report.figures.paper import pdfs
from orchestrator.report.layout import sections
report = record.read(Path(sys.argv[1]))
figures = [one for part in sections(report) for block in part.blocks for one in block.all_figures()]
for key, drawn in pdfs(figures).items():
    print(key, hashlib.sha256(drawn).hexdigest())
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    made, plan = quickstart(tmp_path_factory.mktemp("run"), patients=60, draws=3)
    return build(plan, made.run)


def sketch(*words: str) -> Figure:
    """Make a figure with some texts and one of every kind of mark."""
    sheet = Sheet(width=400, height=20 + 20 * len(words))
    for index, text in enumerate(words):
        sheet.text(10, 20 + 20 * index, text, bold=index % 2 == 1)
    for kind in range(-1, 8):
        sheet.marker(20 + 30 * kind, 8, INK, kind, hollow=kind == 3)
    sheet.box(5, 5, 30, 10, INK, opacity=0.3)
    sheet.corner(100, 5)
    sheet.curve([(0, 0), (10, 5), (20, 5), (20, 9)], INK, dash="2 2")
    sheet.dots([(30, 3), (40, 4)], INK)
    sheet.text(200, 10, "turned", turn=-90, anchor="middle")
    return Figure(key="sketch", alt="A sketch.", caption="A sketch.", wide=sheet.svg(), narrow=sheet.svg())


def test_what_has_no_point_is_not_drawn() -> None:
    sheet = Sheet(width=40, height=40)
    sheet.dots([], INK)
    drawn = pdfs([Figure(key="none", alt="Nothing.", caption="Nothing.", wide=sheet.svg(), narrow=sheet.svg())])
    assert drawn["none"].startswith(b"%PDF")


def test_every_figure_of_a_report_is_a_pdf_with_no_clock_in_it(report: Report, tmp_path: Path) -> None:
    write(report, tmp_path)
    found = {path.stem: path.read_bytes() for path in (tmp_path / "figures").glob("*.pdf")}
    assert set(found) == {path.stem for path in (tmp_path / "figures").glob("*.svg")}
    assert {key.partition("-")[0] for key in found} == {"curve", "forest", "heatmap", "pairs", "roc", "pr", "reliability", "ranks"}
    for drawn in found.values():
        assert drawn.startswith(b"%PDF-1.4")
        assert drawn.count(b"/Type /Page\n") + drawn.count(b"/Type /Page ") == 1
        assert not re.search(rb"CreationDate|ModDate|Producer|Creator|/Image\b.*/Width", drawn)
        assert b"/FontFile2" in drawn and b"/Type3" not in drawn
        assert len(drawn) < 120_000


def test_another_process_draws_the_same_bytes(report: Report, tmp_path: Path) -> None:
    write(report, tmp_path)
    told = [
        subprocess.run(
            [sys.executable, "-c", AGAIN, str(tmp_path / "report.json")],
            env={"PYTHONHASHSEED": seed, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "MPLCONFIGDIR": str(tmp_path / seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert len(told[0].splitlines()) == len(list((tmp_path / "figures").glob("*.pdf")))


def test_a_figure_that_is_gone_takes_its_files_along(report: Report, tmp_path: Path) -> None:
    write(report, tmp_path)
    before = {path.name for path in (tmp_path / "figures").iterdir()}
    write(replace(report, study=replace(report.study, ranks=())), tmp_path)
    gone = before - {path.name for path in (tmp_path / "figures").iterdir()}
    assert gone == {name for name in before if name.startswith("ranks-")}
    assert {name.rpartition(".")[2] for name in gone} == {"svg", "pdf"}


@pytest.mark.needs("latex")
def test_words_can_be_read_and_letters_that_no_font_has_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.pdf").write_bytes(pdfs([sketch("MoCo · 1 − x", "Łódź naïve", "北京 < & >")])["sketch"])
    text = subprocess.run(["pdftotext", "-layout", str(tmp_path / "x.pdf"), "-"], capture_output=True, text=True, check=True).stdout
    for words in ("MoCo · 1 − x", "Łódź naïve", "[U+5317][U+4EAC] < & >"):
        assert words in text


def test_paths_are_walked_as_a_browser_walks_them() -> None:
    vertices, codes = read_path("M1 2L3 4h5v-6l-.5.5z")
    assert vertices == [(1, 2), (3, 4), (8, 4), (8, -2), (7.5, -1.5), (1, 2)]
    assert codes == [1, 2, 2, 2, 2, 79]
    circle, _ = read_path("M6 10a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z")
    # The ends of the four quarters lie on the circle around (10, 10), one on each side.
    assert [circle[index] for index in (0, 3, 6, 9, 12)] == [(6, 10), (10, 14), (14, 10), (10, 6), (6, 10)]


def test_lines_of_a_drawing_are_where_they_are_on_the_page() -> None:
    drawn = pdfs([sketch()])["sketch"]
    streams = [zlib.decompress(one) for one in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", drawn, re.DOTALL) if one[:1] == b"x"]
    content = next(one for one in streams if b" l\n" in one)
    # 400 x 20 pixels at 0.57 points; y grows upwards.
    assert re.search(rb"0 11\.4 m\n5\.7 8\.55 l\n11\.4 8\.55 l\n11\.4 6\.27 l", content)
