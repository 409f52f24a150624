"""Pictures in a report: those of each arm's first run and of what it rests on, named in the JSON, held by the page within its limits."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from jobs.paths import RunPaths
from jobs.pictures import keep_pictures, told
from jobs.spec import JobSpec, Stage
from orchestrator.model import Plan
from orchestrator.report import record, render
from orchestrator.report.analysis import build
from orchestrator.report.checking.check import check
from orchestrator.report.layout import sections
from orchestrator.report.pictures import page as pictures
from orchestrator.report.render import html, write
from orchestrator.report.values import Report
from tests.orchestrator.report.made_run import quickstart
from tests.orchestrator.report.test_render import Page


def png(value: int, side: int = 16, noise: bool = False) -> bytes:
    """Return a square of one grey, or of noise, which does not compress."""
    square = np.full((side, side), value, np.uint8)
    if noise:
        square = np.random.default_rng(value).integers(0, 256, (side, side)).astype(np.uint8)
    return cv2.imencode(".png", square)[1].tobytes()


def draw(run: RunPaths, spec: JobSpec, files: dict[str, bytes], epoch: int | None) -> None:
    """Leave pictures with a job, and its result naming them."""
    paths = run.job(spec.job_id)
    keep_pictures(paths.pictures, files, epoch)
    result: dict[str, Any] = json.loads(paths.result.read_text()) if paths.result.exists() else {"stage": str(spec.stage), "data": []}
    paths.result.write_text(json.dumps({**result, "pictures": told(paths.pictures, {"reconstruction": "input, masked, reconstruction"})}))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, RunPaths, Report, Path]:
    made, plan = quickstart(tmp_path_factory.mktemp("run"), patients=60, draws=2)
    for value, spec in enumerate(job for job in plan.jobs if job.phase == "pretrain"):
        for epoch in (1, 2):
            draw(made.run, spec, {"reconstruction": png(100 * value + epoch)}, epoch)
    for value, spec in enumerate(job for job in plan.jobs if job.stage is Stage.EVALUATE):
        draw(made.run, spec, {"overlay": png(100 + value, side=500)}, None)
    report = build(plan, made.run)
    folder = made.run.sweep("made").report
    write(report, folder, run=made.run)
    return plan, made.run, report, folder


def test_each_arm_has_those_of_its_first_run_and_of_what_it_rests_on(study: tuple[Plan, RunPaths, Report, Path]) -> None:
    plan, _, report, _ = study
    by_id = plan.by_id()
    arms = {arm.key for part in report.test_sets for arm in part.arms}
    upstream = [one for one in report.pictures if one.stage == "train"]
    # Of two pretrainings the last pictures alone, each with the arm that rests on it.
    assert [(one.epoch, one.phase, len(one.arms)) for one in upstream] == [(2, "pretrain", 1)] * 2
    assert len({one.arms for one in upstream}) == 2
    overlays = [one for one in report.pictures if one.stage == "evaluate"]
    assert {one.arms for one in overlays} == {(arm,) for arm in arms} and len(overlays) == len(arms) == 4
    assert {one.test_set for one in overlays} == {"phantom"}
    # The first run of an arm by the plan's own names, not by what finished first.
    for one in overlays:
        rivals = [job for job in by_id.values() if job.stage is Stage.EVALUATE and job.phase == one.phase and job.labels["draw"] == 0]
        assert by_id[one.job] in rivals


def test_the_json_names_them_without_their_bytes(study: tuple[Plan, RunPaths, Report, Path]) -> None:
    _, run, report, folder = study
    content = json.loads((folder / "report.json").read_text())
    assert [one["file"] for one in content["pictures"]] == [one.file for one in report.pictures]
    assert record.parse(record.text(report)).pictures == report.pictures
    assert sorted(path.name for path in (folder / "pictures").iterdir()) == sorted(one.file for one in report.pictures)
    for one in report.pictures:
        source = run.job(one.job).pictures / one.file.partition("-")[2]
        assert (folder / "pictures" / one.file).read_bytes() == source.read_bytes()


def test_the_page_holds_them_with_captions_and_asks_for_nothing(study: tuple[Plan, RunPaths, Report, Path]) -> None:
    _, _, report, folder = study
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == [] and len(page.asked) == len(report.pictures)
    for source, one in zip(page.asked, report.pictures, strict=True):
        kind, _, content = source.partition(",")
        assert kind == "data:image/png;base64" and base64.b64decode(content) == (folder / "pictures" / one.file).read_bytes()
    assert text.count("input, masked, reconstruction: after epoch 2, phase pretrain; for ") == 4  # alt and caption
    assert text.count("overlay: test images of phantom, phase finetune; for ") >= 2
    assert "no number of this report rests on them" in text
    # Small ones are enlarged by whole numbers, so that a pixel stays one.
    assert 'width="352" height="352"' in text and 'width="500" height="500"' in text


def test_the_markdown_shows_the_files_and_is_no_claim(study: tuple[Plan, RunPaths, Report, Path]) -> None:
    _, _, report, folder = study
    text = (folder / "report.md").read_text(encoding="utf-8")
    for one in report.pictures:
        assert f"](pictures/{one.file})" in text
    assert check(record.read(folder / "report.json"), [folder / "report.md"]).faults == ()


def test_written_again_from_the_json_pages_are_the_same(study: tuple[Plan, RunPaths, Report, Path]) -> None:
    _, run, _, folder = study

    def pages() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "report.json"}

    before, again = pages(), record.read(folder / "report.json")
    for source in (None, run):
        write(again, folder, run=source)
        assert pages() == before


def test_patients_images_are_said_to_be_that(study: tuple[Plan, RunPaths, Report, Path]) -> None:
    _, _, report, _ = study
    assert not [one for one in pictures.sentences(report, ()) if "images of patients" in one]
    told_of = pictures.sentences(record.parse(record.text(report).replace('"made_data": true', '"made_data": false')), ())
    assert [one for one in told_of if "images of patients: keep this page as the data are kept" in one]


def test_a_report_without_any_is_as_it_was(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, patients=40, draws=2)
    report = build(plan, made.run)
    write(report, tmp_path / "report", run=made.run)
    assert "pictures" not in record.record(report)
    assert "picture" not in (tmp_path / "report" / "report.md").read_text()
    assert 'id="pictures"' not in (tmp_path / "report" / "report.html").read_text()


def test_a_page_holds_so_many_and_so_much_and_says_what_it_left_off(
    study: tuple[Plan, RunPaths, Report, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, plan = quickstart(tmp_path, patients=40, draws=2)
    spec = next(job for job in plan.jobs if job.phase == "pretrain")
    draw(made.run, spec, {f"p{index:02d}": png(index, side=300, noise=True) for index in range(9)}, 1)
    report = build(plan, made.run)
    folder = tmp_path / "report"
    write(report, folder, run=made.run)

    def on_page() -> int:
        return len(re.findall(r'src="data:image/png', html(report, sections(report), None, folder / "pictures")))

    assert len(report.pictures) == 9 and on_page() == pictures.A_JOB
    assert "3 more are not on this page" in (folder / "report.html").read_text()
    monkeypatch.setattr(pictures, "BYTES_ON_PAGE", 260_000)
    assert on_page() == 2
    plain = len(html(report, sections(report)).encode())
    monkeypatch.setattr(pictures, "BYTES_ON_PAGE", 10_000_000)
    monkeypatch.setattr(render, "LARGEST_PAGE", plain + 150_000)
    whole = html(report, sections(report), None, folder / "pictures")
    assert on_page() == 1 and len(whole.encode()) < render.LARGEST_PAGE


def test_a_file_that_is_gone_or_another_one_is_left_off(tmp_path: Path) -> None:
    made, plan = quickstart(tmp_path, patients=40, draws=2)
    spec = next(job for job in plan.jobs if job.phase == "pretrain")
    draw(made.run, spec, {"a": png(1), "b": png(2), "c": png(3)}, 1)
    report = build(plan, made.run)
    keep_pictures(made.run.job(spec.job_id).pictures, {"b": png(77)}, 1)
    (made.run.job(spec.job_id).pictures / "c-epoch-0001.png").unlink()
    write(report, tmp_path / "report", run=made.run)
    assert [path.name for path in (tmp_path / "report" / "pictures").iterdir()] == [report.pictures[0].file]
    assert "2 more are not on this page" in (tmp_path / "report" / "report.html").read_text()
