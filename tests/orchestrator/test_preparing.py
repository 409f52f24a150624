"""`orchestrate data prepare` as it is typed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.stages import data_root
from orchestrator.cli import app
from orchestrator.errors import DataError
from orchestrator.preparing import wanted_card, wanted_of
from orchestrator.workspace import Workspace
from tests.trainers.data.layouts import write_chexpert
from trainers.data.open import open_data

SWEEP = """
sweep: two_sizes
data: phantom
phases:
  pretrain:
    trainer: moco_cxr
    config: {arch: slim, px: 32, epochs: 1, batch_size: 16, queue_size: 32, bn_images: 8}
  finetune:
    after: pretrain
    trainer: classification
    config: {px: 48, epochs: 1}
    pick: {metric: val/auroc_macro}
    evaluate: [{data: same, split: test}]
sample: {n: 12}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_chexpert(tmp_path / "CheXpert-v1.0-small")
    text = "backend: inline\nrun_root: runs\ndata: {chexpert: CheXpert-v1.0-small}\n"
    (tmp_path / "here.yaml").write_text(text, encoding="utf-8")
    (tmp_path / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ORCHESTRATE_CLUSTER", "here.yaml")
    return tmp_path


def typed(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["data", "prepare", *words])
    return done.exit_code, done.stdout, done.stderr


def shards(site: Path) -> dict[str, int]:
    return {str(path.relative_to(site)): path.stat().st_mtime_ns for path in site.glob("runs/**/cache/images/*/0*")}


def test_a_card_is_decoded_once_and_jobs_find_it(site: Path) -> None:
    code, said, _ = typed("--card", "chexpert", "--px", "16", "--workers", "2")
    assert code == 0 and said.startswith("chexpert at 16 px: 32 images, 0.0 MB in ")
    before = shards(site)
    assert len(before) == 1
    assert typed("--card", "chexpert", "--px", "16")[1] == said and shards(site) == before
    typed("--card", "chexpert", "--px", "24")
    assert len(shards(site)) == 2


def test_a_sweep_is_prepared_before_its_jobs_run(site: Path) -> None:
    code, said, errors = typed("sweep.yaml", "--sample")
    assert code == 0, errors
    assert said.splitlines()[1].startswith("phantom at 64 px: ")
    before = shards(site)
    workspace = Workspace.open(None, sample=True)
    for job in workspace.plan(Path("sweep.yaml")).jobs:
        for source in job.data.get("sources", ()):
            roots = partial(data_root, source, machine=workspace.machine())
            access = open_data(source, None, roots, workspace.run.cache.absolute(), lambda split: True)
            rows = access.rows("train")
            assert access.images(64).image(int(rows.position[0])).shape == (64, 64)
    # No job has anything left to decode.
    assert before and shards(site) == before


def test_a_job_without_a_size_has_that_of_what_it_comes_from(site: Path) -> None:
    found = wanted_of(Workspace.open(None).plan(Path("sweep.yaml")))
    assert [(one.source["card"], one.px) for one in found] == [("phantom", 32), ("phantom", 48)]


def test_images_are_prepared_at_the_side_that_views_are_cut_from(site: Path) -> None:
    Path("sweep.yaml").write_text(SWEEP.replace("{px: 48, epochs: 1}", "{px: 56, crop_pct: 0.875, epochs: 1}"))
    assert [one.px for one in wanted_of(Workspace.open(None).plan(Path("sweep.yaml")))] == [32, 64]


def test_images_that_cannot_be_decoded_are_listed_and_the_exit_code_says_so(site: Path) -> None:
    broken = sorted((site / "CheXpert-v1.0-small").rglob("*.jpg"))[3]
    broken.write_bytes(b"")
    code, _, errors = typed("--card", "chexpert", "--px", "16")
    assert code == 2 and f"{broken} is empty (0 bytes)" in errors.replace("\n", "") and "1 images cannot be decoded" in errors


@pytest.mark.parametrize("words", [(), ("sweep.yaml", "--card", "chexpert"), ("--card", "chexpert"), ("--px", "16")])
def test_what_is_asked_for_in_part_is_refused(site: Path, words: tuple[str, ...]) -> None:
    code, _, errors = typed(*words)
    assert code == 2 and "give a sweep, or --card and --px" in errors


def test_made_data_is_prepared_with_its_sweep(site: Path) -> None:
    with pytest.raises(DataError, match="'phantom' is made by each sweep that uses it"):
        wanted_card("phantom", 16, Workspace.open(None))
