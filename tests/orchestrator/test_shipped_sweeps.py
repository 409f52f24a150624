"""What the shipped sweeps promise of each other."""

from __future__ import annotations

from pathlib import Path

from jobs.catalog import find_trainers
from jobs.spec import Stage
from orchestrator.expand import expand
from orchestrator.loading import load_sweep
from tests.orchestrator.planning import FakeResolver

SWEEPS = Path(__file__).parents[2] / "sweeps"


def pretrainings(name: str) -> set[str]:
    catalog = find_trainers()
    labels = {"shenzhen": ("tuberculosis",), "chexpert": ("pleural_effusion",)}
    plan = expand(load_sweep(SWEEPS / f"{name}.yaml", catalog=catalog), catalog, FakeResolver(label_names=labels))
    return {job.job_id for job in plan.jobs if job.phase == "pretrain" and job.stage is Stage.TRAIN}


def test_shenzhen_starts_from_the_pretrainings_of_the_study_on_chexpert() -> None:
    assert pretrainings("moco_cxr_shenzhen") == pretrainings("moco_cxr_paper")
    assert len(pretrainings("moco_cxr_paper")) == 6
