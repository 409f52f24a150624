"""Draws that are added on the command line: what was there keeps its id, and nothing but the new runs is new."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.paths import RunPaths
from jobs.spec import Resources, Stage
from orchestrator.errors import Error
from orchestrator.expand import expand
from orchestrator.expansion.repeats import parse_repeats, with_repeats
from orchestrator.model import Plan
from tests.golden.trainers import CATALOG
from tests.orchestrator.client import run_here
from tests.orchestrator.planning import CHAIN, FakeResolver, jobs_of, read
from tests.orchestrator.standin import bodies

SEEDED = """
    sweep: seeded
    data: chexpert
    phases:
      pretrain: {trainer: moco_cxr, seeds: 3}
      finetune:
        trainer: classification
        compare: {after: [pretrain, none]}
        draws: {fraction: [0.1], repeats: 3}
        pick: {metric: val/auroc_macro}
        evaluate: [{data: same, split: test}]
"""


def raised(folder: Path, text: str, repeats: str) -> tuple[Plan, Plan, tuple[str, ...]]:
    """Return the plan as written, the plan with more repeats, and what is said."""
    sweep = read(folder, text)
    larger, notes = with_repeats(sweep, parse_repeats(repeats))
    return expand(sweep, CATALOG, FakeResolver()), expand(larger, CATALOG, FakeResolver()), notes


@pytest.mark.parametrize("repeats", ["4", "0.1=4", "0.1=4,1=3"])
def test_jobs_that_were_there_keep_their_ids(tmp_path: Path, repeats: str) -> None:
    before, after, _ = raised(tmp_path, CHAIN, repeats)
    known = {job.job_id: job for job in before.jobs}
    new = [job for job in after.jobs if job.job_id not in known]
    assert set(known) <= {job.job_id for job in after.jobs}
    assert all(known[job.job_id] == job for job in after.jobs if job.job_id in known)
    assert {job.phase for job in new} == {"finetune"}
    first = {0.1: 2, 1.0: 1}
    assert all(int(job.labels["draw"] or 0) >= first[float(job.labels["fraction"] or 0)] for job in new)
    arms = len({(job.labels["init"], job.labels["arch"], job.labels["after"]) for job in before.jobs if job.stage is Stage.EVALUATE})
    added = sum(max(0, parse_repeats(repeats).get(size, parse_repeats(repeats).get(None, now)) - now) for size, now in first.items())
    assert sum(job.stage is Stage.EVALUATE for job in new) == arms * added


def test_draws_from_one_stream_are_not_raised_behind_their_backs(tmp_path: Path) -> None:
    text = CHAIN.replace("repeats: [2, 1]", "repeats: [2, 1], sizes: random")
    with pytest.raises(Error, match="the draws of finetune have random sizes"):
        raised(tmp_path, text, "4")
    before, after, notes = raised(tmp_path, text, "0.1=2")
    assert [job.job_id for job in before.jobs] == [job.job_id for job in after.jobs] and not notes


def test_draws_of_shuffles_of_their_own_may_be_raised(tmp_path: Path) -> None:
    before, after, _ = raised(tmp_path, CHAIN.replace("repeats: [2, 1]", "repeats: [2, 1], sizes: shuffled"), "0.1=4")
    assert {job.job_id for job in before.jobs} < {job.job_id for job in after.jobs}
    draws = [job.data["draw"] for job in jobs_of(after, "finetune") if job.data["draw"]["fraction"] == 0.1]
    assert {draw["sizes"] for draw in draws} == {"shuffled"}
    assert not any("of" in draw for draw in draws)


def test_what_was_raised_is_said_with_how_to_keep_it(tmp_path: Path) -> None:
    _, after, notes = raised(tmp_path, CHAIN, "0.1=4")
    assert notes == ("finetune: 4 draws of 0.1 instead of 2", "finetune: to keep the draws, write repeats: [4, 1] in the sweep")
    assert len(jobs_of(after, "finetune", Stage.EVALUATE, fraction=0.1, after="none", init="random", arch="resnet18")) == 4


@pytest.mark.parametrize(
    ("repeats", "message"),
    [
        ("many", "'many' is no number of repeats; write a number for all sizes"),
        ("0.1=x", "'0.1=x' is no number of repeats"),
        ("0", "0 is not between 1 and 1000"),
        ("0.1=4,0.1=5", "'0.1=5' does not go with what stands before it"),
        ("4,0.1=5", "'0.1=5' does not go with what stands before it"),
        ("0.2=5", "no phase draws 0.2; the sizes are 0.1, 1"),
        ("0.1=1", "finetune has 2 draws of 0.1 already, and 1 would leave some out; ask for 2 or more"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, repeats: str, message: str) -> None:
    with pytest.raises(Error) as caught:
        raised(tmp_path, CHAIN, repeats)
    assert message in str(caught.value)


def test_seeds_that_are_paired_with_draws_are_not_torn_from_them(tmp_path: Path) -> None:
    with pytest.raises(Error, match="the 3 draws of finetune are paired with the 3 seeds of pretrain, one for one; raise both"):
        raised(tmp_path, SEEDED, "5")


def test_a_sweep_without_draws_has_nothing_to_raise(tmp_path: Path) -> None:
    text = SEEDED.replace("draws: {fraction: [0.1], repeats: 3}", "seeds: 3")
    with pytest.raises(Error, match="no phase has draws of a fraction or a count"):
        raised(tmp_path, text, "5")


def test_submit_runs_the_added_draws_and_nothing_else(tmp_path: Path) -> None:
    """Real submissions of both plans; the stages are stand-ins, whose configs say nothing."""
    before, after, _ = raised(tmp_path, SEEDED.replace("seeds: 3", ""), "4")
    root = tmp_path / "run"
    plain = [
        replace(plan, jobs=tuple(replace(job, config={}, resources=Resources(cpus=1)) for job in plan.jobs)) for plan in (before, after)
    ]
    first = run_here(plain[0], root)
    assert (first.submitted, first.exit_code) == (len(before.jobs), 0)
    second = run_here(plain[1], root)
    added = [job for job in after.jobs if job.job_id not in before.by_id()]
    assert (second.submitted, second.exit_code) == (len(added), 0)
    assert len(added) == 2 * 3, "a fourth draw in two arms: train, pick, evaluate"
    ran = {job.job_id: len(bodies(RunPaths(root).job(job.job_id).folder)) for job in after.jobs}
    assert set(ran.values()) == {1}
