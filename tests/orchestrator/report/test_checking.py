"""`report --check`: a number that differs is found at its place, one that agrees is not, and what is not the report's is left alone."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator import cli
from orchestrator.errors import ReportError
from orchestrator.report import lines, record
from orchestrator.report.analysis import build
from orchestrator.report.checking.check import check
from orchestrator.report.checking.written import agrees, as_written, read_number
from orchestrator.report.render import write
from orchestrator.report.values import Report
from tests.orchestrator.report.made_run import quickstart

HEAD = "\\documentclass{article}\n\\begin{document}\n"
TAIL = "\n\\end{document}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, plan = quickstart(tmp_path_factory.mktemp("run"), gaps=1, patients=120)
    found = made.run.sweep("made").report
    write(build(plan, made.run), found)
    return found


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    return record.read(folder / "report.json")


def value_of(report: Report, key: str, part: str = "estimate") -> float:
    return next(float(getattr(line, part)) for line in lines.lines(report) if line.key == key)


def paper(tmp_path: Path, body: str, name: str = "paper.tex") -> Path:
    path = tmp_path / name
    path.write_text(HEAD + body + TAIL if name.endswith(".tex") else body, encoding="utf-8")
    return path


def changed(text: str, place: int) -> str:
    """Return a text with the digit at a place made another."""
    return text[:place] + str((int(text[place]) + 1) % 10) + text[place + 1 :]


REAL = "phantom/pretrain-real/64/auroc_macro"
GAIN = "phantom/pretrain-real-vs-no-pretraining/64/auroc_macro"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.812", 0.8124),
        (".812", 0.8115),
        ("81.2\\,\\%", 0.8121),
        ("81.2 %", 0.8119),
        ("81.2", 0.8121),
        ("$-$0.051", -0.0512),
        ("−0.051", -0.0508),
        ("+0.156", 0.1561),
        ("$<$~0.001", 0.0002),
        ("\\textbf{0.812}", 0.8124),
        ("25,596", 25596),
        ("25{,}596", 25596),
        ("$1.2\\times10^{-4}$", 0.000121),
        ("1.2e-4", 0.000119),
        ("0.81", 0.8149),
        ("1", 1.0),
    ],
)
def test_a_number_is_read_as_people_write_it(text: str, value: float) -> None:
    written = read_number(text)
    assert written is not None
    assert agrees(written, value)
    assert not agrees(written, value * 1.05 + math.copysign(2 * written.unit, value))


def test_what_is_not_one_number_is_none() -> None:
    assert all(read_number(text) is None for text in ("", "abc", "0.8--0.9", "0.8 and 0.9", "1.2.3", "x0.8"))
    written = read_number("82.7 %")
    assert written is not None
    assert as_written(written, 0.8261) == "82.6 %"


def test_our_own_tables_are_as_the_report_is(report: Report, folder: Path) -> None:
    found = check(report, [folder / "report.tex"])
    assert found.faults == ()
    assert found.named > 300
    assert found.typed >= 2 * len(report.verdicts)
    assert len(found.files) == 1 + len(list((folder / "tables").glob("*.tex")))


def test_the_markdown_page_is_read_as_a_person_would(report: Report, folder: Path) -> None:
    found = check(report, [folder / "report.md"])
    assert found.faults == ()
    assert found.typed > 300


def test_a_factor_beyond_what_was_tried_is_no_estimate(report: Report, tmp_path: Path) -> None:
    real = f"\\cxr{{{REAL}}}{{{value_of(report, REAL):.3f}}}"
    said = "With 64 labelled patients, pretrain · real ({}) is worth below {}× to beyond 0.77$\\times$ as many labels as no pretraining."
    found = check(report, [paper(tmp_path, said.format(real, "0.25"))])
    assert (found.faults, found.named, found.typed, found.unchecked) == ((), 1, 0, 0)
    assert len(check(report, [paper(tmp_path, said.format(real, "0.25×10^{-3} and 0.123"))]).faults) == 2


def test_every_digit_of_a_table_is_guarded(report: Report, folder: Path, tmp_path: Path) -> None:
    fragment = (folder / "tables" / "headline-phantom.tex").read_text(encoding="utf-8")
    numbers = list(re.finditer(r"\\cxr\{[^{}]+\}\{(\d\.\d{3})\}", fragment))
    assert len(numbers) == 24
    for found in numbers:
        for place in range(found.start(1) + 2, found.end(1)):
            path = tmp_path / "table.tex"
            path.write_text(changed(fragment, place), encoding="utf-8")
            (fault,) = check(report, [path]).faults
            assert (fault.line, fault.report) == (fragment.count("\n", 0, place) + 1, found[1])


def test_a_name_that_is_not_there_is_an_error_with_the_nearest(report: Report, tmp_path: Path) -> None:
    (fault,) = check(report, [paper(tmp_path, r"It is \cxr{phantom/pretrain-real/46/auroc_macro}{0.8}.")]).faults
    assert (fault.line, fault.column) == (3, 7)
    assert f"did you mean '{REAL}'" in fault.message


def test_names_in_comments(report: Report, tmp_path: Path) -> None:
    good = f"{value_of(report, REAL):.3f}"
    wrong = changed(good, 4)
    tex = paper(tmp_path, f"First 12 and then {good}. % cxr: {REAL}\nNow {wrong}. % cxr: {REAL}\n")
    found = check(report, [tex])
    assert (found.named, [(one.line, one.column, one.says, one.report) for one in found.faults]) == (1, [(4, 5, wrong, good)])
    text = paper(tmp_path, f"Now {good}<!-- cxr: {REAL} --> and {wrong}<!-- cxr: {REAL}.low -->.\n", "paper.md")
    assert [one.name for one in check(report, [text]).faults] == [f"{REAL}.low"]


def test_the_size_of_a_negative_difference_has_its_own_name(report: Report, tmp_path: Path) -> None:
    first = report.differences[0]
    lower = replace(report, differences=(replace(first, estimate=-0.0512, low=-0.1, high=-0.01, estimates=()), *report.differences[1:]))
    body = rf"Lower by \cxr{{{GAIN}.abs}}{{0.051}}, not \cxr{{{GAIN}}}{{0.051}}."
    (fault,) = check(lower, [paper(tmp_path, body)]).faults
    assert fault.message.endswith(f"name it {GAIN}.abs")


@pytest.mark.parametrize("name", ["paper.tex", "paper.md"])
def test_typed_numbers_beside_names(report: Report, tmp_path: Path, name: str) -> None:
    value, low, high = (value_of(report, REAL, part) for part in ("estimate", "low", "high"))
    gain = value_of(report, GAIN)
    body = (
        f"With 64 labelled patients, pretrain · real reaches {value:.3f} (95 % CI {low:.3f}–{high:.3f}) macro AUROC.\n"
        f"Over no pretraining at 64 labels, pretrain · real gains {100 * gain:.1f} % AUROC (p < 0.06).\n"
    ).replace("%", r"\%" if name.endswith(".tex") else "%")
    found = check(report, [paper(tmp_path, body, name)])
    assert (found.faults, found.typed) == ((), 5)
    broken = body.replace(f"{value:.3f}", f"{value + 0.004:.3f}")
    (fault,) = check(report, [paper(tmp_path, broken, name)]).faults
    assert (fault.report, fault.name) == (f"{value:.3f}", REAL)
    assert "says" in fault.message and "pretrain-real, count=64" in fault.message


def test_a_sentence_about_the_result_before_it_keeps_its_arm(report: Report, tmp_path: Path) -> None:
    low, high = value_of(report, REAL, "low"), value_of(report, REAL, "high")
    start = "With 64 labelled patients pretrain · real is best in AUROC. "
    assert check(report, [paper(tmp_path, f"{start}Its interval is {low:.3f} to {high:.3f}.")]).typed == 2
    assert len(check(report, [paper(tmp_path, f"{start}Its interval is {low:.3f} to {high + 0.1:.3f}.")]).faults) == 1
    other = check(report, [paper(tmp_path, f"{start}{value_of(report, REAL):.3f} AUROC, that is. The learning rate was 0.0001.")])
    assert (other.faults, other.typed, other.unchecked) == ((), 1, 1)


@pytest.mark.parametrize(
    "table",
    [
        "\\begin{tabular}{lcc}\nArm & \\multicolumn{2}{c}{AUROC} \\\\\n & 64 patients & 256 patients \\\\\n"
        "pretrain $\\cdot$ real & \\textbf{A} & B \\\\\nno pretraining & C & D \\\\\n\\end{tabular}",
        "\\begin{tabular}{lcc}\nAUROC & pretrain $\\cdot$ real & no pretraining \\\\\n"
        "64 labels & A & C \\\\\n256 labels & B & D \\\\\n\\end{tabular}",
    ],
    ids=["arms in rows", "arms in columns"],
)
def test_a_table_by_hand_is_held_against_its_row_and_column(report: Report, tmp_path: Path, table: str) -> None:
    keys = {
        letter: f"phantom/{arm}/{size}/auroc_macro"
        for letter, arm, size in zip("ABCD", ["pretrain-real"] * 2 + ["no-pretraining"] * 2, ["64", "256"] * 2, strict=True)
    }
    values = {letter: value_of(report, key) for letter, key in keys.items()}

    def filled(given: dict[str, float]) -> str:
        return re.sub(r"\b[ABCD]\b", lambda found: f"{given[found.group()]:.3f}"[1:], table)

    assert check(report, [paper(tmp_path, filled(values))]).typed == 4
    # Two cells changed for each other are each a number of the report, in the wrong place.
    swapped = {**values, "A": values["D"], "D": values["A"]}
    faults = check(report, [paper(tmp_path, filled(swapped))]).faults
    assert sorted(one.says for one in faults) == sorted(f"{values[letter]:.3f}"[1:] for letter in "AD")
    assert all(one.name.startswith((keys["A"], keys["D"])) for one in faults)


def test_aliases_and_what_is_left_out(report: Report, tmp_path: Path) -> None:
    value = value_of(report, REAL)
    body = (
        "% cxr: alias MoCo-CXR = pretrain-real\n"
        f"MoCo-CXR reaches {value:.3f} AUROC with 64 labels.\n"
        "Others report 0.999 AUROC for MoCo-CXR. % cxr: ignore\n"
        "% cxr: off\nMoCo-CXR with 64 labels: 0.111 AUROC.\n% cxr: on\n"
        "MoCo-CXR with 64 labels: 0.222 AUROC.\n"
    )
    found = check(report, [paper(tmp_path, body)])
    assert (found.typed, [one.says for one in found.faults]) == (1, ["0.222"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("% cxr: alias MoCo = pretrain-reel\n0.8", r"paper\.tex:3:1: 'pretrain-reel' is no arm .* did you mean 'pretrain-real'"),
        ("% cxr: alias MoCo\n0.8", r"paper\.tex:3:1: .* write `cxr: alias NAME = ARM`"),
        ("Nothing % cxr: a/b/c\n", r"paper\.tex:3:9: .* has no number before it"),
        ("We say nothing with 0.123.", r"no number in it stands by a name"),
    ],
)
def test_what_a_person_wrote_wrong_is_said_with_its_place(report: Report, tmp_path: Path, body: str, said: str) -> None:
    with pytest.raises(ReportError, match=said):
        check(report, [paper(tmp_path, body)])


def test_files_that_cannot_be_read(report: Report, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="no such file"):
        check(report, [tmp_path / "none.tex"])
    (tmp_path / "bin.tex").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ReportError, match="not a text in UTF-8"):
        check(report, [tmp_path / "bin.tex"])


def test_a_number_that_could_not_be_estimated_has_a_name_and_no_value(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, gaps=5, patients=120)
    found = check(build(plan, made.run), [paper(tmp_path, r"\cxr{phantom/pretrain-scrambled/256/auroc_macro}{0.800}")])
    assert "could not estimate" in found.faults[0].message


def test_the_command_leaves_1_where_a_number_differs(folder: Path, tmp_path: Path) -> None:
    text = paper(tmp_path, rf"\cxr{{{REAL}}}{{0.111}}")
    run = CliRunner().invoke(cli.app, ["report", str(folder / "report.json"), "--check", str(text)])
    assert run.exit_code == 1
    assert f"{text}:3:1: says 0.111, the report says 0." in run.output
    as_json = CliRunner().invoke(cli.app, ["report", str(folder / "report.json"), "--check", str(text), "--json"])
    assert json.loads(as_json.output)["faults"][0]["says"] == "0.111"
    good = CliRunner().invoke(cli.app, ["report", str(folder / "report.json"), "--check", str(folder / "report.tex")])
    assert (good.exit_code, "all as in the report" in good.output) == (0, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--check", "a.tex"], "name the sweep, or its report.json, before --check"),
        (["report.json", "--check", "a.tex", "--predictions", "p.csv"], "--check compares texts with a report that is there"),
        (["none.json", "--check", "a.tex"], "there is no report yet"),
    ],
)
def test_what_was_typed_wrong_is_a_sentence(words: list[str], said: str) -> None:
    run = CliRunner().invoke(cli.app, ["report", *words])
    assert said in str(run.exception)
