"""A key that came after the first results: jobs as they were keep their ids, and no later default reaches them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import pytest

from jobs.catalog import Declaration
from jobs.spec import job_id
from tests.golden.trainers import CATALOG
from tests.orchestrator.planning import jobs_of, plan_of

SWEEP = """
sweep: s
data: chexpert
phases:
  f: {{trainer: new, config: {{lr: 0.01{config}}}, {axis} pick: {{rule: last}}, evaluate: [{{data: same, split: test}}]}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Old:
    lr: float = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class New:
    lr: float = 1e-3
    crops: tuple[int, ...] = field(default=(1, 2), metadata={"before": (1, 2)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Later:
    lr: float = 1e-3
    crops: tuple[int, ...] = field(default=(3,), metadata={"before": (1, 2)})


def declared(config: type) -> Declaration:
    return Declaration(name="new", version=1, config=config, package="nowhere")


def configs(folder: Path, kind: type, config: str = "", axis: str = "") -> dict[str, dict[str, object]]:
    with patch.dict(CATALOG, {"new": declared(kind)}):
        jobs = jobs_of(plan_of(folder, SWEEP.format(config=config, axis=axis)), "f")
    assert all(job.job_id == job_id(job.identity()) for job in jobs)
    return {job.job_id: dict(job.config) for job in jobs}


def test_a_job_with_the_value_of_before_is_the_job_of_before(tmp_path: Path) -> None:
    old = configs(tmp_path, Old)
    assert configs(tmp_path, New) == configs(tmp_path, New, ", crops: [1, 2]") == configs(tmp_path, Later, ", crops: [1, 2]") == old


def test_another_value_is_another_job_and_so_is_a_later_default(tmp_path: Path) -> None:
    other = configs(tmp_path, New, ", crops: [3]")
    assert [config["crops"] for config in other.values()] == [[3]]
    assert configs(tmp_path, Later) == other


def test_it_may_be_an_axis(tmp_path: Path) -> None:
    found = configs(tmp_path, New, axis="compare: {crops: [[1, 2], [4]]},")
    assert sorted(map(str, (config.get("crops") for config in found.values()))) == ["None", "[4]"]
    assert set(configs(tmp_path, Old)) < set(found)


@pytest.mark.parametrize("kind", [New, Later])
def test_what_a_job_does_not_name_is_as_it_was_before(kind: type) -> None:
    assert declared(kind).configured({"lr": 0.1}) == kind(lr=0.1, crops=(1, 2))
    assert declared(kind).configured({"crops": (5,)}).crops == (5,)
