"""How replicates of draws, seeds and folds become jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.spec import Stage
from orchestrator.expansion.replicates import training_seed
from tests.orchestrator.planning import CHAIN, FakeResolver, jobs_of, only, plan_of


def test_random_sizes_name_the_whole_stream_and_exact_ones_leave_it_out(tmp_path: Path) -> None:
    text = "sweep: s\ndata: d\nphases: {a: {trainer: classification, draws: {fraction: [0.1, 1], repeats: [2, 1]%s}}}\n"
    random = plan_of(tmp_path, text % ", by: image, sizes: random").jobs
    assert [job.data["draw"]["of"] for job in random] == [[[0.1, 2], [1.0, 1]]] * 3
    assert {job.data["draw"]["sizes"] for job in random} == {"random"}
    for plain in (text % "", text % ", sizes: exact"):
        assert all("sizes" not in job.data["draw"] and "of" not in job.data["draw"] for job in plan_of(tmp_path, plain).jobs)


def test_a_draw_and_its_seed_are_the_same_in_every_arm(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, CHAIN)
    by_draw: dict[tuple[object, object], set[str]] = {}
    for job in jobs_of(plan, "finetune"):
        by_draw.setdefault((job.labels["fraction"], job.labels["draw"]), set()).add(f"{job.seed} {job.data}")
    assert {key: len(seen) for key, seen in by_draw.items()} == {(0.1, 0): 1, (0.1, 1): 1, (1.0, 0): 1}
    one = only(plan, "finetune", after="none", init="random", arch="resnet18", fraction=0.1, draw=1)
    assert one.seed == training_seed(0, "finetune", (1,))
    assert one.data["draw"] == {
        "scheme": "fraction",
        "by": "patient",
        "fraction": 0.1,
        "index": 1,
        "nested_fractions": False,
        "seed": 0,
    }


def test_counts_are_numbers_of_units(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path, "sweep: s\ndata: d\nphases: {a: {trainer: classification, draws: {count: [64, 256], repeats: 2, by: study}}}\n"
    )
    assert [(job.labels["count"], job.data["draw"]["count"], job.data["draw"]["by"]) for job in plan.jobs] == [
        (64, 64, "study"),
        (64, 64, "study"),
        (256, 256, "study"),
        (256, 256, "study"),
    ]


@pytest.mark.parametrize(("seeds", "expected"), [(3, 3 + 1), (2, 2 * (3 + 1))])
def test_as_many_pretraining_seeds_as_draws_are_paired_and_others_crossed(tmp_path: Path, seeds: int, expected: int) -> None:
    plan = plan_of(
        tmp_path,
        f"""
        sweep: s
        data: d
        phases:
          pretrain: {{trainer: moco_cxr, seeds: {seeds}}}
          finetune:
            trainer: classification
            after: pretrain
            draws: {{fraction: [0.1, 1], repeats: [3, 1]}}
        """,
    )
    found = jobs_of(plan, "finetune")
    assert len(found) == expected
    if seeds == 3:
        assert all(job.labels["seed"] == job.labels["draw"] for job in found)
        assert len({job.inputs[0].job for job in jobs_of(plan, "finetune", fraction=0.1)}) == 3
    assert len({job.seed for job in jobs_of(plan, "finetune", draw=0)}) == 1


def test_equal_seeds_of_parent_and_child_are_paired(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        """
        sweep: s
        data: d
        phases:
          pretrain: {trainer: moco_cxr, seeds: 3}
          finetune: {trainer: classification, after: pretrain, seeds: 3}
          longer: {trainer: classification, after: pretrain, seeds: 2}
          plain: {trainer: classification, after: pretrain}
        """,
    )
    assert [dict(job.labels) for job in jobs_of(plan, "finetune")] == [{"seed": 0}, {"seed": 1}, {"seed": 2}]
    assert [(job.labels["seed"], job.labels["longer.seed"]) for job in jobs_of(plan, "longer")] == [
        (seed, own) for seed in range(3) for own in range(2)
    ]
    assert len({job.seed for job in jobs_of(plan, "plain")}) == 3


def test_folds_come_from_the_data(tmp_path: Path) -> None:
    text = """
        sweep: s
        data: d
        phases:
          a:
            trainer: classification
            draws: {{{}}}
            pick: {{rule: last}}
            evaluate: [{{data: same, split: held_out}}]
    """
    pairs = plan_of(tmp_path, text.format("scheme: leave_pair_out"), FakeResolver(pairs=6))
    assert [job.labels["fold"] for job in jobs_of(pairs, "a")] == list(range(6))
    evaluated = only(pairs, "a", Stage.EVALUATE, fold=4)
    assert evaluated.data["draw"] == {"scheme": "leave_pair_out", "by": "patient", "fold": 4}
    folds = plan_of(tmp_path, text.format("scheme: kfold, folds: 4, repeats: 2, seed: 9"))
    assert [(job.labels["draw"], job.labels["fold"]) for job in jobs_of(folds, "a")] == [(r, k) for r in range(2) for k in range(4)]
    assert only(folds, "a", draw=1, fold=2).data["draw"] == {
        "scheme": "kfold",
        "by": "patient",
        "folds": 4,
        "fold": 2,
        "index": 1,
        "seed": 9,
    }
    assert len({job.seed for job in jobs_of(folds, "a")}) == 8
