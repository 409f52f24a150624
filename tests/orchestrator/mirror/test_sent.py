"""The files that a run of MLflow was sent: as many as a report has, each once, whatever became of the tags that say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.paths import RunPaths
from orchestrator import tracking
from orchestrator.mirror.sent import ARTIFACTS, LONGEST, file_tags, is_about_files, sent_files, shown_tables
from orchestrator.model import Plan
from tests.orchestrator.mirror.mirrored import client_of, runs_of
from tests.orchestrator.mirror.played import Player

FILES = st.dictionaries(st.text(min_size=1, max_size=80), st.text("0123456789abcdef", min_size=64, max_size=64), max_size=200)


@given(files=FILES, before=FILES)
def test_tags_give_back_what_they_were_made_of_whatever_was_there(files: dict[str, str], before: dict[str, str]) -> None:
    tags = {"job": "x", **file_tags(before, {})}
    assert sent_files(tags) == before
    tags |= file_tags(files, tags)
    assert sent_files(tags) == files
    assert max(len(value) for value in tags.values()) <= LONGEST
    assert file_tags(files, tags) == {name: value for name, value in tags.items() if is_about_files(name)}


def test_few_files_are_one_tag_as_before() -> None:
    assert file_tags({"b": "2", "a": "1"}, {}) == {ARTIFACTS: '{"a":"1","b":"2"}'}


def test_of_many_tables_as_many_are_shown_as_a_tag_holds() -> None:
    shown = json.loads(shown_tables([f"tables/{number:04d}.json" for number in range(500)]))
    assert 50 < len(shown) < 500 and shown[0] == {"path": "tables/0000.json", "type": "table"}


@pytest.fixture
def figures(plan: Plan, run: RunPaths) -> Path:
    """Write a report of more files than one tag has room for."""
    Player(run=run).play(plan.jobs)
    folder = run.sweep(plan.sweep).report
    (folder / "figures").mkdir(parents=True)
    (folder / "report.json").write_text("{}", encoding="utf-8")
    for number in range(150):
        (folder / "figures" / f"forest-made-hospital-a-{number:03d}.svg").write_text(f"<svg>{number}</svg>", encoding="utf-8")
    return folder / "figures"


def sent(plan: Plan, run: RunPaths, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Sync, and return which files were sent."""
    found: list[str] = []
    upload = tracking._Mirror._upload
    with monkeypatch.context() as patched:
        patched.setattr(tracking._Mirror, "_upload", lambda self, identity, files: found.extend(files) or upload(self, identity, files))
        tracking.sync(plan, run)
    return found


def test_a_report_of_many_files_is_sent_once_and_then_what_changed(
    plan: Plan, run: RunPaths, figures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sent(plan, run, monkeypatch)
    assert len([path for path in first if path.startswith("report/figures/")]) == 150
    assert sent(plan, run, monkeypatch) == []
    (figures / "forest-made-hospital-a-149.svg").write_text("<svg>other</svg>", encoding="utf-8")
    assert sent(plan, run, monkeypatch) == ["report/figures/forest-made-hospital-a-149.svg"]


def test_a_tag_that_was_cut_is_mended_by_sending_its_files_again(
    plan: Plan, run: RunPaths, figures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(plan, run, monkeypatch)
    report = runs_of(run, "play")["play report"]
    cut = json.dumps(sent_files(report.data.tags))[:7_963]
    client_of(run).set_tag(report.info.run_id, ARTIFACTS, cut)
    (figures / "forest-made-hospital-a-000.svg").write_text("<svg>other</svg>", encoding="utf-8")
    again = sent(plan, run, monkeypatch)
    assert "report/figures/forest-made-hospital-a-000.svg" in again and len(again) < 150
    assert len(sent_files(runs_of(run, "play")["play report"].data.tags)) == 151
