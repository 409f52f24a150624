"""The page: one file, no network, every number from the values, nothing hidden."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from orchestrator.report import record, render, tables
from orchestrator.report.analysis import build
from orchestrator.report.entries import scale_of
from orchestrator.report.figures.curves import label_efficiency
from orchestrator.report.layout import sections
from orchestrator.report.provenance import provenance
from orchestrator.report.render import coded, emphasised, html, markdown, write
from orchestrator.report.values import Report
from orchestrator.report.wording import MADE_DATA, apart, estimand_words, number, p_value, signed
from tests.orchestrator.report.made_run import leave_pair_out, quickstart


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    root = tmp_path_factory.mktemp("run")
    made, plan = quickstart(root, gaps=1, patients=120, draw_sd=0.2)
    report = build(plan, made.run)
    folder = made.run.sweep("made").report
    write(report, folder, provenance(plan, made.run))
    return report, folder


class Page(HTMLParser):
    """Checks nesting and gathers what a page asks for."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr", "line", "circle", "rect", "path", "use"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.asked: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        found = dict(attrs)
        self.ids += [value for key, value in attrs if key == "id" and value]
        if tag in ("script", "img", "iframe", "audio", "video") and found.get("src"):
            self.asked.append(str(found["src"]))
        if tag == "link":
            self.asked.append(str(found.get("href")))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_for_nothing(written: tuple[Report, Path]) -> None:
    _, folder = written
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.asked == []
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    named = set(re.findall(r"https?://[^\s\"'<>]+", text))
    assert named <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert len(text.encode()) < 2_000_000
    for wanted in ("prefers-color-scheme: dark", "@media print", "(max-width: 720px)", MADE_DATA, 'aria-label="Macro AUROC against'):
        assert wanted.lower() in text.lower()


def test_a_page_that_would_be_too_large_leaves_its_largest_blocks_off_and_says_so(
    written: tuple[Report, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    report, _ = written
    shown = sections(report)
    whole, curve = html(report, shown), 'aria-label="macro auroc against'
    for limit in (len(whole.encode()) - 1, 200_000):
        monkeypatch.setattr(render, "LARGEST_PAGE", limit)
        text = html(report, shown)
        page = Page()
        page.feed(text)
        assert page.open == [] and len(text.encode()) < limit < len(whole.encode())
        assert "Left off this page" in text and curve in text.lower()
        # Not one block more than has to go.
        assert limit == 200_000 or text.count("Left off this page") == 1
    monkeypatch.setattr(render, "LARGEST_PAGE", 1)
    assert curve in html(report, shown).lower()


def test_every_number_of_a_table_is_in_the_json(written: tuple[Report, Path]) -> None:
    report, folder = written
    content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    page = (folder / "report.html").read_text(encoding="utf-8")
    for one in (*content["cells"], *content["label_cells"]):
        if one["estimate"] is not None:
            assert f">{number(one['estimate'])}</span>" in page
    for one in content["differences"]:
        assert f">{signed(one['estimate'])}</span>" in page
        assert f"{signed(one['low'])} to {signed(one['high'])}" in page
    table = tables.headline(report, report.test_sets[0])
    shown = [entry.text for row in table.rows for entry in row.entries[1:-1]]
    assert shown == [number(one["estimate"]) for one in content["cells"]]


def test_a_missing_draw_is_seen_on_every_page(written: tuple[Report, Path]) -> None:
    _, folder = written
    for name in ("report.html", "report.md"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "4 of 5 runs" in text
        assert "1 of 40 planned evaluations is not there" in text
    assert "missing</span>" in (folder / "report.html").read_text(encoding="utf-8")


def test_verdicts_carry_estimate_interval_what_was_resampled_p_and_n(written: tuple[Report, Path]) -> None:
    report, _ = written
    first = report.verdicts[0]
    assert re.fullmatch(
        r"With 64 labelled patients, pretrain · real scores 0\.\d{3} higher than no pretraining in macro AUROC\.", first.claim
    )
    interval = r"95\u202f% CI \+0\.\d{3} to \+0\.\d{3}"
    resampled, adjusted = "new draws and new patients, one pretraining run", r"Holm-adjusted p\u00a0[<=]\u00a00\.\d+"
    for pattern in (interval, resampled, adjusted, "5 matched draws", "120 test patients"):
        assert re.search(pattern, first.evidence), pattern


def test_json_has_no_clock_host_or_path_and_provenance_has(written: tuple[Report, Path]) -> None:
    _, folder = written
    text = (folder / "report.json").read_text(encoding="utf-8")
    assert str(folder.parents[2]) not in text
    origin = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert origin["made_on"] not in text or len(origin["made_on"]) < 4
    assert "versions" in origin
    assert "versions" not in json.loads(text)
    assert len(origin["jobs"]) > 40


def test_cells_are_flat_for_whoever_reads_the_json_as_a_table(written: tuple[Report, Path]) -> None:
    _, folder = written
    for one in json.loads((folder / "report.json").read_text(encoding="utf-8"))["cells"]:
        assert {
            "arm",
            "size",
            "measure",
            "n_labeled",
            "estimate",
            "low",
            "high",
            "estimand",
            "method",
            "status",
            "n_runs",
            "n_planned",
        } <= set(one)


def test_drawings_are_the_same_bytes_and_carry_no_date(written: tuple[Report, Path]) -> None:
    report, folder = written
    first = label_efficiency(report, report.test_sets[0])
    again = label_efficiency(report, report.test_sets[0])
    assert first == again
    assert first is not None
    assert "var(--series-0, #0a66a8)" in first.wide
    assert not re.search(r"\d{4}-\d{2}-\d{2}T", first.wide)
    assert "0.8" in first.alt
    assert (folder / "figures" / f"{first.key}.svg").read_text(encoding="utf-8").startswith("<?xml")


def test_no_verdict_means_no_sentence_and_says_so(tmp_path: Path) -> None:
    made, plan = leave_pair_out(tmp_path)
    report = build(plan, made.run)
    shown = sections(report)
    page, text = html(report, shown), markdown(report, shown)
    for rendered in (page, text):
        assert "This page makes no claim" in rendered
        assert "Fifteen images show nothing." in rendered
        assert "6,435 assignments" in rendered
        assert "higher than" not in rendered
    assert "CI " not in text


def test_a_number_that_is_not_finite_never_reaches_the_json(written: tuple[Report, Path]) -> None:
    from dataclasses import replace

    report, _ = written
    broken = replace(report, cells=(replace(report.cells[0], estimate=float("nan")),))
    with pytest.raises(ValueError, match="None"):
        record.text(broken)


def test_names_in_a_claim_are_set_apart_and_escaped() -> None:
    marked = emphasised("With 5 & more, a<b · x scores higher than no a<b in AUROC.", ["a<b · x", "no a<b"])
    assert str(marked) == "With 5 &amp; more, <em>a&lt;b · x</em> scores higher than <em>no a&lt;b</em> in AUROC."


def test_words_and_numbers() -> None:
    assert estimand_words("new_draws_new_patients_given_pretraining_given_pick") == (
        "new draws and new patients, one pretraining run, given the picked values"
    )
    assert estimand_words("these_models_new_patients") == "these models, new patients"
    assert estimand_words("new_seeds_this_test_set") == "new seeds, this test set"
    assert (number(None), number(0.12345), signed(-0.0512), p_value(0.0004), p_value(1.0)) == (
        "–",
        "0.123",
        "−0.051",
        "<\u00a00.001",
        "1.000",
    )
    assert apart("pretrain · imagenet · backbone", "no pretraining · imagenet · backbone") == (
        "pretrain",
        "no pretraining",
        "imagenet · backbone",
    )
    assert apart("pretrain", "pretrain · x") == ("pretrain", "pretrain · x", "")


def test_little_plots_stand_on_round_axes_with_their_reference() -> None:
    scale = scale_of([0.62, 0.88], reference=0.5)
    assert (scale.low, scale.high, scale.reference) == (pytest.approx(0.6), pytest.approx(0.9), None)
    near = scale_of([0.53, 0.88], reference=0.5)
    assert near.reference == 0.5
    assert near.place(0.5) == pytest.approx(0.0)
    always = scale_of([0.03, 0.2], reference=0.0, reach=float("inf"))
    assert always.low == 0.0


def test_importing_the_report_reaches_no_torch_and_no_sklearn() -> None:
    code = (
        "import sys, orchestrator.report.analysis, orchestrator.report.render; "
        "sys.exit(' '.join(sorted({'torch', 'timm', 'sklearn', 'mlflow', 'ray', 'matplotlib', 'jinja2'} & set(sys.modules))) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_a_person_types_is_set_as_code_and_nothing_escapes() -> None:
    assert str(coded("type `a < b` & go")) == "type <code>a &lt; b</code> &amp; go"
    assert coded("a lone ` stays") == "a lone ` stays"
