"""The design read off plans that the grammar made: arms, sizes, replicates, partners, budgets."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.spec import JobSpec, Stage
from orchestrator.report.analysis import build
from orchestrator.report.design import Design
from tests.orchestrator.planning import plan_of
from tests.orchestrator.report.made_run import Made

MOCO = """
    sweep: moco
    data: chexpert
    compare: {init: [imagenet, random]}
    phases:
      pretrain:
        trainer: moco_cxr
        config: {arch: resnet18}
        tune: {zip: {lr: [1e-5, 1e-4, 1e-2], epochs: [20, 20, 35]}}
      finetune:
        trainer: classification
        compare: {after: [pretrain, none], freeze: [backbone, nothing]}
        exclude: [{after: none, init: random, freeze: backbone}]
        draws: {fraction: [0.01, 1.0], repeats: [3, 2], by: patient, seed: 0}
        pick: {metric: val/auroc_macro}
        evaluate: [{data: same, split: test}, {data: shenzhen, split: test}]
    report: {measure: auroc_macro, baseline: {after: none}, over: fraction}
"""


def better_pretrained(spec: JobSpec) -> float:
    return 1.6 if spec.labels.get("after") == "pretrain" else 0.8


def test_the_paper_sweep_is_laid_out_as_it_was_meant(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, MOCO)
    made = Made(tmp_path / "run", patients=80)
    made.fill(plan, better_pretrained)
    report = build(plan, made.run)
    assert [one.key for one in report.test_sets] == ["chexpert", "shenzhen"]
    arms = {arm.title: arm.candidates for arm in report.test_sets[0].arms}
    assert arms == {
        "pretrain · imagenet · backbone": 3,
        "pretrain · imagenet · freeze nothing": 3,
        "pretrain · random · backbone": 3,
        "pretrain · random · freeze nothing": 3,
        "no pretraining · imagenet · backbone": 1,
        "no pretraining · imagenet · freeze nothing": 1,
        "no pretraining · random · freeze nothing": 1,
    }
    assert [size.title for size in report.test_sets[0].sizes] == ["1\u202f% of the labels", "100\u202f% of the labels"]
    of_first = [one for one in report.differences if one.test_set == "chexpert"]
    assert len(of_first) == 6
    assert {one.matching for one in of_first if one.size == "fraction=0.01"} == {"matched"}
    assert {one.n_replicates for one in of_first if one.size == "fraction=0.01"} == {3}
    assert {one.family for one in of_first} == {6}
    assert {one.tone for one in report.verdicts if one.size == "fraction=0.01"} == {"better"}
    assert all(row.picked == {"epochs": 35, "lr": 0.01} for row in report.ledger if "after=pretrain" in row.arm)
    assert all(one.n_pretrainings == 1 for one in report.cells if "after=pretrain" in one.arm)
    assert {one.n_pretrainings for one in report.cells if "after=none" in one.arm} == {0}


def test_whole_data_seeds_are_nested_and_phases_can_be_baselines(tmp_path: Path) -> None:
    text = """
        sweep: stages
        data: chexpert
        phases:
          first: {trainer: classification, seeds: 3, pick: {metric: val/auroc_macro}, evaluate: [{data: same, split: test}]}
          second:
            trainer: classification
            after: {init: first}
            compare: {lr: [0.1, 0.2]}
            pick: {metric: val/auroc_macro}
            evaluate: [{data: same, split: test}]
        report: {measure: auroc_macro, baseline: {phase: first}}
    """
    plan = plan_of(tmp_path, text)
    made = Made(tmp_path / "run", patients=80)
    made.fill(plan, lambda spec: 1.5 if spec.phase == "second" else 1.0)
    report = build(plan, made.run)
    assert [arm.title for arm in report.test_sets[0].arms] == ["first", "second · lr 0.1", "second · lr 0.2"]
    assert {(one.arm, one.baseline) for one in report.differences} == {("second/lr=0.1", "first"), ("second/lr=0.2", "first")}
    assert {one.matching for one in report.differences} == {"nested"}
    assert {one.estimand.partition("_given")[0] for one in report.differences} == {"new_seeds_new_patients"}


def test_a_value_picked_for_all_replicates_is_said(tmp_path: Path) -> None:
    text = """
        sweep: cell
        data: chexpert
        phases:
          finetune:
            trainer: classification
            compare: {init: [random, imagenet]}
            tune: {lr: [0.1, 0.2, 0.4]}
            seeds: 3
            pick: {metric: val/auroc_macro, scope: cell, on: {seed: [0]}}
            evaluate: [{data: same, split: test}]
        report: {measure: auroc_macro, baseline: {init: random}}
    """
    plan = plan_of(tmp_path, text)
    made = Made(tmp_path / "run", patients=80)
    made.fill(plan, lambda _: 1.0)
    report = build(plan, made.run)
    assert {arm.candidates for arm in report.test_sets[0].arms} == {3}
    assert {one.estimand for one in report.cells} == {"new_seeds_new_patients_given_pick"}
    assert {row.candidates for row in report.ledger} == {3}
    assert {tuple(row.picked) for row in report.ledger} == {("lr",)}
    assert all(row.at_edge == ("lr 0.4",) for row in report.ledger)


@pytest.mark.parametrize("first", [0, 1])
def test_targets_are_not_arms(tmp_path: Path, first: int) -> None:
    plan = plan_of(tmp_path, MOCO)
    design = Design.of(plan)
    places = [design.place(job) for job in plan.jobs if job.stage is Stage.EVALUATE]
    assert {place.target for place in places} == {"chexpert", "shenzhen"}
    assert all("target" not in place.arm and "fraction" not in place.arm and "draw" not in place.arm for place in places)
    assert places[first].size.startswith("fraction=")
