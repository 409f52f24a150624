"""What `--sample` keeps of a sweep, and what it says of the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.spec import Stage
from orchestrator.errors import SweepError
from orchestrator.expand import expand
from orchestrator.expansion.sampling import sample
from orchestrator.loading import load_sweep
from orchestrator.model import Plan, Sample
from tests.golden.trainers import CATALOG
from tests.orchestrator.planning import FakeResolver, jobs_of, read

GOLDEN = Path(__file__).parents[1] / "golden" / "sweeps"

STUDY = """
    sweep: study
    data: chexpert
    compare: {init: [imagenet, random, own.pt]}
    phases:
      pretrain:
        trainer: moco_cxr
        config: {batch_size: 256, temperature: 0.5}
        tune: {zip: {lr: [1e-5, 1e-4, 1e-3], epochs: [20, 30, 40]}}
        when: [{if: {lr: 1e-3}, set: {epochs: 99, momentum: 0.5}, override: true}]
      finetune:
        trainer: classification
        compare: {after: [pretrain, {weights: w.pt}, none], freeze: [backbone, nothing]}
        exclude: [{after: none, init: own.pt}]
        draws: {fraction: [0.001, 0.01, 0.1, 1.0], repeats: [5, 5, 5, 1]}
        pick: {metric: val/auroc_macro}
        evaluate: [{data: same, split: test}, {data: shenzhen, split: test}, {data: openi, split: test}]
    report: {baseline: {after: none}}
"""


def cut(folder: Path, text: str) -> tuple[Plan, tuple[str, ...]]:
    small, notes = sample(read(folder, text), CATALOG)
    return expand(small, CATALOG, FakeResolver(made_data=True), sampled=True), notes


def test_every_axis_keeps_two_values_and_the_baseline_is_one_of_them(tmp_path: Path) -> None:
    plan, notes = cut(tmp_path, STUDY + "    sample: {max_jobs: 400}\n")
    values = {axis.name: axis.values for axis in plan.axes}
    assert values["init"] == ("imagenet", "random")
    assert values["after"] == ("pretrain", "none")
    assert values["freeze"] == ("backbone", "nothing")
    assert values["lr"] == (1e-5, 1e-4)
    assert values["fraction"] == (0.1, 1.0)
    assert values["draw"] == (0, 1, 2)
    assert len(jobs_of(plan, "finetune", fraction=1.0, after="none", init="random", freeze="nothing")) == 1
    assert plan.sample
    assert plan.made_data
    assert notes == (
        "init: dropped own.pt",
        "pretrain.lr: dropped 0.001",
        "finetune.after: dropped w.pt",
        "finetune.fraction: dropped 0.001, 0.01",
        "finetune: 3 draws of each size instead of 5",
        f"{len(plan.jobs)} jobs at 64 px with 240 made patients",
    )


def test_configs_are_the_trainers_small_ones_and_the_sweeps_own(tmp_path: Path) -> None:
    plan, _ = cut(tmp_path, STUDY + "    sample: {max_jobs: 400, px: 48, set: {finetune: {epochs: 1, batch_size: 4}}}\n")
    pretrain = jobs_of(plan, "pretrain", lr=1e-4)[0].config
    # `epochs` of the zip gives way to the trainer's sample; the axis that tells points apart stays.
    assert (pretrain["epochs"], pretrain["queue_size"], pretrain["px"], pretrain["temperature"]) == (2, 32, 48, 0.5)
    assert pretrain["lr"] == 1e-4
    finetune = jobs_of(plan, "finetune", after="none")[0].config
    assert (finetune["epochs"], finetune["batch_size"], finetune["px"]) == (1, 4, 48)


def test_what_the_sample_sets_no_condition_sets_again(tmp_path: Path) -> None:
    plan, _ = cut(tmp_path, STUDY + "    sample: {keep: {lr: [1e-3, 1e-4]}, max_jobs: 400}\n")
    third = jobs_of(plan, "pretrain", lr=1e-3)[0].config
    assert (third["epochs"], third["momentum"]) == (2, 0.5)


def test_named_values_are_kept_and_dropped_last_when_jobs_are_too_many(tmp_path: Path) -> None:
    keep = "keep: {init: [imagenet, random, own.pt], fraction: [0.01, 1.0], freeze: [nothing]}"
    plan, _ = cut(tmp_path, STUDY + f"    sample: {{{keep}, max_jobs: 400}}\n")
    values = {axis.name: axis.values for axis in plan.axes}
    assert values["init"] == ("imagenet", "random", "own.pt")
    assert values["fraction"] == (0.01, 1.0)
    assert values["freeze"] == ("nothing",)
    all_targets = len(plan.jobs)
    fewer, notes = cut(tmp_path, STUDY + f"    sample: {{{keep}, max_jobs: {all_targets - 1}}}\n")
    assert {axis.name: axis.values for axis in fewer.axes}["init"] == ("imagenet", "random", "own.pt")
    assert "finetune.evaluate: dropped openi" in notes
    assert {job.labels["target"] for job in jobs_of(fewer, "finetune", Stage.EVALUATE)} == {"chexpert", "shenzhen"}
    fewest, notes = cut(tmp_path, STUDY + f"    sample: {{{keep}, max_jobs: {len(fewer.jobs) - 1}}}\n")
    assert {axis.name: axis.values for axis in fewest.axes}["init"] == ("imagenet", "random")
    assert "init: dropped own.pt" in notes


def test_a_sample_that_stays_too_large_says_what_to_cut(tmp_path: Path) -> None:
    with pytest.raises(SweepError) as raised:
        cut(tmp_path, STUDY + "    sample: {max_jobs: 9}\n")
    message = str(raised.value).splitlines()[0]
    assert message.startswith(f"{tmp_path / 'sweep.yaml'}:19:20: sample.max_jobs: the smallest sample has ")
    assert message.endswith(
        "jobs, and max_jobs is 9: raise it, or name fewer values in `sample.keep` "
        "(the longest axes are init (2), pretrain.lr (2), finetune.freeze (2), finetune.after (2))"
    )


def test_backbones_give_way_to_one_of_test_size(tmp_path: Path) -> None:
    catalog = {**CATALOG, "classification": replace(CATALOG["classification"], sample={"arch": "slim", "px": 64})}
    text = """
    sweep: s
    data: d
    phases:
      a:
        trainer: classification
        compare: {arch: [resnet18, resnet50], freeze: [backbone, nothing]}
        exclude: [{arch: resnet50, freeze: backbone}]
    """
    small, notes = sample(read(tmp_path, text), catalog)
    plan = expand(small, catalog, FakeResolver(), sampled=True)
    assert [(job.config["arch"], job.config["freeze"]) for job in plan.jobs] == [("slim", "backbone"), ("slim", "nothing")]
    assert notes[0] == "a.arch: one value of test size (slim) instead of 2"
    named, _ = sample(read(tmp_path, text + "sample: {keep: {arch: [resnet18, resnet50]}}\n"), catalog)
    assert {job.config["arch"] for job in expand(named, catalog, FakeResolver(), sampled=True).jobs} == {"resnet18", "resnet50"}


def test_seeds_folds_and_searches_are_cut_too(tmp_path: Path) -> None:
    plan, notes = cut(
        tmp_path,
        """
        sweep: s
        data: d
        phases:
          a: {trainer: classification, seeds: 10}
          b: {trainer: classification, draws: {scheme: leave_pair_out}, pick: {rule: last}}
          c: {trainer: classification, draws: {scheme: kfold, folds: 5, repeats: 4}}
          d:
            trainer: classification
            search: {scheduler: asha, samples: 9, metric: val/x, space: {lr: {sample: uniform, from: 0.1, to: 0.2}}}
            pick: {metric: val/x}
        """,
    )
    assert [len(jobs_of(plan, phase)) for phase in "abcd"] == [3, 3, 3, 4]
    assert notes[:4] == ("a: 3 seeds instead of 10", "b: the first 3 folds", "c: the first 3 folds", "d: 4 samples of 9")
    # A fold of a sample is a fold of the whole: five are dealt, three are run.
    assert {job.data["draw"]["folds"] for job in jobs_of(plan, "c")} == {5}


def test_the_grid_of_pick_on_runs_on_a_size_that_is_left(tmp_path: Path) -> None:
    plan, _ = cut(
        tmp_path,
        """
        sweep: s
        data: d
        phases:
          a:
            trainer: classification
            tune: {lr: [1e-3, 1e-2, 1e-1]}
            draws: {fraction: [0.001, 0.1, 1.0], repeats: 4}
            pick: {metric: val/x, scope: cell, on: {fraction: 0.001, draw: [3]}}
        """,
    )
    grid = [job for job in jobs_of(plan, "a") if "lr" in job.labels]
    assert {(job.labels["fraction"], job.labels["draw"]) for job in grid} == {(0.1, 0)}
    assert len(jobs_of(plan, "a")) == 2 + 5


@pytest.mark.parametrize("name", ["moco_cxr", "ark_transfer", "unichest", "ag_cnn", "benchmark", "real_xrays"])
def test_every_worked_sweep_has_a_sample_that_still_compares(name: str) -> None:
    sweep = replace(load_sweep(GOLDEN / f"{name}.yaml", catalog=CATALOG), sample=Sample(max_jobs=150))
    small, _ = sample(sweep, CATALOG)
    plan = expand(small, CATALOG, FakeResolver(made_data=True), sampled=True)
    whole = expand(sweep, CATALOG, FakeResolver())
    assert len(plan.jobs) <= min(150, len(whole.jobs))
    for axis in whole.axes:
        left = {(other.phase, other.name): other.values for other in plan.axes}.get((axis.phase, axis.name), ())
        # `epochs` is paired with the learning rate there, and a sample sets it.
        assert len(left) >= min(2, len(axis.values)) or axis.name == "epochs", axis.name
        assert set(left) <= set(axis.values)
