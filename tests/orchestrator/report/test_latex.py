"""LaTeX: tables that compile, numbers that carry their names, and nothing that a name can break."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.report import latex, lines
from orchestrator.report.analysis import build
from orchestrator.report.blocks import Block
from orchestrator.report.entries import Column, Entry, Row, Table
from orchestrator.report.figures.drawing import Figure
from orchestrator.report.figures.paper import pdfs
from orchestrator.report.figures.svg import Sheet
from orchestrator.report.layout import Section, sections
from orchestrator.report.render import write
from orchestrator.report.values import Report
from orchestrator.report.wording import made_data
from tests.orchestrator.report.made_run import quickstart

#: What people call things, and what LaTeX takes for something else.
NASTY = ["50 % & more", "a_b^c", "{x}\\y", "#1 ~ $5", "naïve · §2", "łódź → 北京", '<p> | "q" − ‖']
TRACED = re.compile(r"\\cxr\{([^{}]+)\}\{((?:[^{}]|\{[^{}]*\})*)\}")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    made, plan = quickstart(tmp_path_factory.mktemp("run"), gaps=1, patients=120)
    return build(plan, made.run)


def table_of(names: list[str], columns: int = 2, rows: int | None = None) -> Table:
    """Make a table whose names are given and whose numbers are counted."""
    return Table(
        key="made-table",
        caption=" ".join(names),
        columns=(Column(title="Arm", kind="text"), *(Column(title=names[index % len(names)], below="95 %") for index in range(columns))),
        rows=tuple(
            Row(
                entries=(
                    Entry(text=names[row % len(names)], below="minus it"),
                    *(
                        Entry(
                            text=f"0.{row:02}{column}", below="0.1–0.2", rank=row + 1 if row < 2 else None, signs=("†",), marks=("one run",)
                        )
                        for column in range(columns)
                    ),
                )
            )
            for row in range(rows or len(names))
        ),
        note="Bold is best.",
    )


def compiled(folder: Path, name: str = "report.tex") -> str:
    """Compile a document twice, as a long table wants, and return what a reader reads."""
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", name],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            errors="replace",
        )
        assert done.returncode == 0, done.stdout[-3000:]
    assert "Missing character" not in (folder / name).with_suffix(".log").read_text(errors="replace")
    pdf = str((folder / name).with_suffix(".pdf"))
    return subprocess.run(["pdftotext", "-layout", pdf, "-"], capture_output=True, text=True, check=True).stdout


def test_a_name_is_written_as_it_reads() -> None:
    assert latex.escape("50 % & a_b") == r"50 \% \& a\_b"
    assert latex.escape("+0.1\u202f% < −0.2–0.3") == r"+0.1\,\% $<$ $-$0.2--0.3"
    assert latex.escape("naïve Łódź") == r"na\"{i}ve \L{}\'{o}d\'{z}"
    assert latex.escape("→ 北") == "[U+2192] [U+5317]"
    assert latex.escape("ﬁ x\n") == "fi x "
    assert all(latex.escape(name).isascii() for name in NASTY)


def test_every_number_carries_its_name_and_equals_the_long_form(report: Report) -> None:
    known = {line.key: line for line in lines.lines(report)}
    seen = 0
    for text in latex.fragments(sections(report)).values():
        for name, shown in TRACED.findall(text):
            line = known.get(name)
            key, _, part = (name, "", "estimate") if line else name.rpartition(".")
            value = getattr(known[key], part)
            written = shown.replace("$-$", "-").replace("$<$", "<").replace("~", "")
            if written.startswith("<"):
                assert value < float(written[1:])
            else:
                decimals = len(written.partition(".")[2])
                assert float(written) == pytest.approx(value, abs=0.5001 * 10.0**-decimals), name
            seen += 1
    assert seen > 300


def test_no_number_of_a_table_lacks_a_name(report: Report) -> None:
    for text in latex.fragments(sections(report)).values():
        body = re.sub(r"(?s).*?\\begin\{tabular\}", "", text, count=1).rpartition(r"\bottomrule")[0]
        assert re.findall(r"[+-]?\d?\.\d{3}", TRACED.sub("", body)) == []


def test_best_second_and_signs(report: Report) -> None:
    text = latex.fragments(sections(report))["headline-phantom.tex"]
    assert len(re.findall(r"\\textbf\{\\cxr", text)) == len(re.findall(r"\\underline\{\\cxr", text)) == 2
    assert r"\textsuperscript{$\dagger$" in text
    assert "Bold is the highest estimate of a column" in text
    assert r"\textsuperscript{a}\,4 of 5 runs" in text
    assert r"{\itshape thumbnail}" in text


def test_a_wide_table_goes_on_in_a_second_and_a_long_one_over_pages() -> None:
    wide = latex.fragment(table_of(["a", "b"], columns=11))
    assert wide.count(r"\begin{table}") == 2
    assert wide.count(r"\label{") == 1
    assert wide.count("(continued)") == 1
    assert set(re.findall(r"0\.00\d", wide)) >= {f"0.00{digit}" for digit in range(10)}
    long = latex.fragment(table_of(["a", "b"], rows=60))
    assert r"\begin{longtable}" in long
    assert "Needs the packages booktabs and longtable" in long


def test_the_same_report_gives_the_same_bytes(report: Report) -> None:
    first, again = (latex.document(report, sections(report)) for _ in range(2))
    assert first == again
    assert r"\today" not in first.text


@pytest.mark.needs("latex")
def test_the_document_compiles_and_reads(report: Report, tmp_path: Path) -> None:
    write(report, tmp_path)
    text = compiled(tmp_path)
    words = " ".join(text.split())
    for cell in report.cells:
        assert f"{cell.estimate:.3f}" in text
    for one in report.differences:
        assert f"{one.estimate:+.3f}".replace("-", "−") in text
    assert "What the runs say" in text
    assert made_data(sample=report.sample) in words
    assert "Bold is the highest estimate of a column, underlined the second" in words
    assert "new draws and new patients" in words
    figures = [figure for part in sections(report) for block in part.blocks for figure in block.all_figures()]
    assert len(figures) > 10
    for index, figure in enumerate(figures, 1):
        assert f"Figure {index}: {figure.caption.split()[0]}" in words
    log = (tmp_path / "report.log").read_text(errors="replace")
    assert {Path(name).stem for name in re.findall(r"figures/[\w-]+\.pdf", re.sub(r"\n", "", log))} == {one.key for one in figures}
    assert [line for line in log.splitlines() if line.startswith("Overfull")] == []


@pytest.mark.needs("latex")
def test_more_figures_than_latex_holds_at_once_are_set(report: Report, tmp_path: Path) -> None:
    sheet = Sheet(width=200, height=60)
    sheet.text(10, 30, "drawn")
    figures = [Figure(key=f"figure-{index}", alt="", caption=f"Number {index}.", wide=sheet.svg(), narrow="") for index in range(70)]
    (tmp_path / "figures").mkdir()
    for key, drawn in pdfs(figures).items():
        (tmp_path / "figures" / f"{key}.pdf").write_bytes(drawn)
    shown = (Section(test_set=report.test_sets[0], blocks=(Block(key="many", figures=tuple(figures)),)),)
    (tmp_path / "report.tex").write_text(latex.document(report, shown).text, encoding="utf-8")
    assert len(re.findall(r"Figure \d+: Number \d+\.", compiled(tmp_path))) == 70


@pytest.mark.needs("latex")
def test_no_name_breaks_a_document(report: Report, tmp_path: Path) -> None:
    tables = [table_of(NASTY), replace(table_of(NASTY, columns=9, rows=40), key="long & wide")]
    body = [latex.fragment(table) for table in tables]
    head = r"\documentclass{article}\usepackage[a3paper,landscape,margin=1cm]{geometry}\usepackage{booktabs,longtable}\begin{document}"
    (tmp_path / "nasty.tex").write_text("\n".join([head, *body, r"\end{document}"]), encoding="utf-8")
    text = compiled(tmp_path, "nasty.tex")
    assert "50 % & more" in text
    assert "{x}\\y #1" in text
    assert "[U+5317][U+4EAC] <p>" in text
    assert "0.398" in text


@pytest.mark.needs("latex")
def test_a_fragment_stands_alone_in_a_paper_that_prints_the_names(report: Report, tmp_path: Path) -> None:
    fragment = latex.fragments(sections(report))["headline-phantom.tex"]
    (tmp_path / "headline.tex").write_text(fragment, encoding="utf-8")
    paper = r"""\documentclass{article}
\usepackage{booktabs}
\newcommand{\cxr}[2]{\emph{#2}}
\begin{document}
See Table~\ref{tab:headline-phantom}.
\input{headline.tex}
\end{document}
"""
    (tmp_path / "paper.tex").write_text(paper, encoding="utf-8")
    assert "See Table 1" in compiled(tmp_path, "paper.tex")
    assert shutil.which("pdflatex")
