"""The files that a sweep extends to run MoCo-CXR as published, as released or as recommended."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from jobs.catalog import find_trainers
from jobs.spec import JobSpec, Stage
from orchestrator.expand import expand
from orchestrator.expansion.presets import preset_values
from orchestrator.loading import load_sweep
from orchestrator.model import Plan
from tests.orchestrator.planning import FakeResolver, jobs_of

FOLDER = Path(__file__).parents[2] / "sweeps" / "presets"
NAMES = ("paper", "release", "recommended")
CATALOG = find_trainers()


def plan_of(folder: Path, name: str, rest: str = "compare: {init: [imagenet, random]}\n") -> Plan:
    file = folder / "mine.yaml"
    file.write_text(f"sweep: mine\nextends: {FOLDER}/moco_cxr_{name}.yaml\ndata: chexpert\n{rest}", encoding="utf-8")
    return expand(load_sweep(file, catalog=CATALOG), CATALOG, FakeResolver())


def trains(plan: Plan, phase: str) -> list[JobSpec]:
    return jobs_of(plan, phase, Stage.TRAIN)


def epochs_of(fraction: float) -> int:
    """Return the passes that the released generator gives a share of the labels: floor(5 * 4^(log_8(1 / share)))."""
    return math.floor(5 * 4 ** (math.log(1 / fraction) / math.log(8)) + 1e-9)


def test_there_is_a_file_for_each_preset_and_no_other() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == {f"moco_cxr_{name}" for name in NAMES}
    for trainer in ("moco_cxr", "classification"):
        assert {name for name in CATALOG[trainer].presets if not name.startswith("benchmark_")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_its_jobs_have_the_values_of_the_preset(name: str, tmp_path: Path) -> None:
    plan = plan_of(tmp_path, name)
    for phase, trainer in (("pretrain", "moco_cxr"), ("finetune", "classification")):
        set_here = {"freeze", "epochs", "save_every_examples", *(["lr"] if phase == "pretrain" and name == "recommended" else [])}
        values = {**preset_values(CATALOG[trainer], name)}
        jobs = trains(plan, phase)
        assert jobs
        for job in jobs:
            config = {**CATALOG[trainer].before, **job.config}
            assert {key: config[key] for key in values if key not in set_here} == {k: v for k, v in values.items() if k not in set_here}


@pytest.mark.parametrize("name", ["paper", "release"])
def test_passes_follow_the_released_rule(name: str, tmp_path: Path) -> None:
    found = {job.labels["fraction"]: job.config["epochs"] for job in trains(plan_of(tmp_path, name), "finetune")}
    assert found == {fraction: epochs_of(float(str(fraction))) for fraction in found}
    assert {0.001: 500, 0.01: 107, 0.1: 23, 1.0: 5}.items() <= found.items()


def test_the_grid_of_the_release_is_its_rule_to_the_nearest_batch(tmp_path: Path) -> None:
    for job in trains(plan_of(tmp_path, "release"), "finetune"):
        ruled = min(math.floor(131072 * float(str(job.labels["fraction"]))), 8192)
        assert job.config["save_every_examples"] == 16 * round(ruled / 16)


def test_the_release_draws_images_by_one_stream_and_averages_what_it_kept(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "release")
    draws = [job.data["draw"] for job in trains(plan, "finetune")]
    assert {(draw["by"], draw["sizes"]) for draw in draws} == {("image", "random")}
    assert {str(draw["of"]) for draw in draws} == {"[[0.001, 5], [0.01, 5], [0.1, 5], [0.5, 5], [1.0, 1]]"}
    assert {job.config["freeze"] for job in trains(plan, "finetune")} == {"gradients", "nothing"}
    picks = jobs_of(plan, "finetune", Stage.PICK)
    assert {(job.config["metric"], job.config["checkpoints"]) for job in picks} == {("val/auroc_competition", "all")}
    assert {job.config["keep_best"] for job in trains(plan, "finetune")} == {10}


def test_arms_are_counted(tmp_path: Path) -> None:
    # 2 starts x (pretrained or not) x 2 protocols x (5 + 5 + 5 + 1) draws; what is recommended tunes the pretraining over 3 rates.
    assert len(trains(plan_of(tmp_path, "paper"), "finetune")) == 2 * 2 * 2 * 16
    assert len(trains(plan_of(tmp_path, "release"), "finetune")) == 2 * 2 * 2 * 21
    assert len(trains(plan_of(tmp_path, "recommended"), "finetune")) == 2 * (3 + 1) * 2 * 18


def test_a_sweep_may_say_otherwise(tmp_path: Path) -> None:
    rest = "phases:\n  pretrain: {preset: recommended, config: {px: 224}}\n  finetune: {config: {px: 224}}\n"
    (job,) = trains(plan_of(tmp_path, "paper", rest), "pretrain")
    assert (job.config["optimizer"], job.config["px"], job.config["arch"]) == ("adamw", 224, "resnet18")
