"""What a sweep allows stands on the first page of its report, in every form, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.mirror.curves import experiment_note
from orchestrator.model import Contamination, Plan
from orchestrator.report import record
from orchestrator.report.analysis import build
from orchestrator.report.latex import document
from orchestrator.report.layout import sections
from orchestrator.report.render import html, markdown
from orchestrator.report.values import Report
from tests.orchestrator.report.made_run import leave_pair_out

ALLOWED = Contamination(
    card="chestxray14",
    split="test",
    phase="finetune",
    trained_in="pretrain",
    trained_on="rsna",
    why="card 'rsna' says that images of 'chestxray14' are in it",
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Report, Report]:
    made, plan = leave_pair_out(tmp_path_factory.mktemp("run"))
    marked = replace(plan, contamination=(ALLOWED,))
    return marked, build(plan, made.run), build(marked, made.run)


def pages(report: Report) -> dict[str, str]:
    shown = sections(report)
    return {"html": html(report, shown), "md": markdown(report, shown), "tex": document(report, shown).text}


def test_the_first_page_says_what_was_allowed(built: tuple[Plan, Report, Report]) -> None:
    _, _, marked = built
    for name, text in pages(marked).items():
        plain = text.replace("&#39;", "'").replace("\\allowbreak{}", "")
        assert "Training may have seen test images, which this sweep allows" in plain, name
        assert ALLOWED.sentence.replace("_", "\\_" if name == "tex" else "_") in plain, name


def test_the_record_holds_it_and_reads_back(built: tuple[Plan, Report, Report]) -> None:
    _, plain, marked = built
    assert record.record(marked)["contamination"] == [
        {
            "card": "chestxray14",
            "split": "test",
            "phase": "finetune",
            "trained_in": "pretrain",
            "trained_on": "rsna",
            "why": "card 'rsna' says that images of 'chestxray14' are in it",
        }
    ]
    assert record.parse(record.text(marked)).contamination == (ALLOWED,)
    assert "contamination" not in record.record(plain)


def test_a_report_without_any_says_nothing(built: tuple[Plan, Report, Report]) -> None:
    _, plain, _ = built
    assert not [name for name, text in pages(plain).items() if "which this sweep allows" in text]


def test_mlflow_says_it_above_the_runs(built: tuple[Plan, Report, Report]) -> None:
    plan, _, _ = built
    assert f"**Allowed: {ALLOWED.sentence}**" in experiment_note(plan)
    assert "Allowed" not in experiment_note(replace(plan, contamination=()))


def test_it_comes_before_the_numbers(built: tuple[Plan, Report, Report]) -> None:
    _, _, marked = built
    first = {"html": '<h2 id="set-1"', "md": "## Results", "tex": r"\clearpage"}
    for name, text in pages(marked).items():
        assert text.index("which this sweep allows") < text.index(first[name]), name
