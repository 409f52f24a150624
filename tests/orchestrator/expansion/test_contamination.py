"""Test images that training has seen: refused with what to type, or allowed and then said wherever results are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jobs.spec import Stage, spec_from_json, spec_to_json
from orchestrator.errors import SweepError
from orchestrator.plans import plan_text, read_plan, write_plan
from tests.orchestrator.planning import FakeResolver, jobs_of, plan_of

SWEEP = """\
sweep: seen
{allow}phases:
  pretrain:
    trainer: moco_cxr
    data: mimic
  finetune:
    trainer: classification
    data: shenzhen
    compare: {{after: [pretrain, none]}}
    pick: {{metric: val/auroc_macro}}
    evaluate: [{{data: same, split: test}}, {{data: chexpert, split: test}}]
"""
WHY = "card 'mimic' says that images of 'chexpert' are in it"
ALLOW = "allow_contamination: [chexpert]\n"


def resolver(trained: str = "mimic") -> FakeResolver:
    return FakeResolver(overlaps={(trained, "chexpert", "test"): WHY})


def sweep(allow: str = "") -> str:
    return SWEEP.format(allow=allow)


def test_a_test_set_that_an_ancestor_saw_is_refused_where_it_stands(tmp_path: Path) -> None:
    with pytest.raises(SweepError) as error:
        plan_of(tmp_path, sweep(), resolver())
    assert (
        "sweep.yaml:11:50: phases.finetune.evaluate[1].data: 'finetune' is scored on 'chexpert' (test), and 'pretrain' trains on 'mimic': "
        f"{WHY}: leave one of the two out, or type `allow_contamination: [chexpert]` at the top of the sweep, "
        "which the report then says on its first page\n"
    ) in str(error.value)


def test_training_of_the_scored_phase_itself_counts_too(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="'finetune' trains on 'shenzhen'"):
        plan_of(tmp_path, sweep(), resolver("shenzhen"))


def test_a_target_at_the_top_of_the_sweep_is_pointed_at_there(tmp_path: Path) -> None:
    text = sweep().replace("    evaluate: [{data: same, split: test}, {data: chexpert, split: test}]\n", "")
    with pytest.raises(SweepError) as error:
        plan_of(tmp_path, text + "evaluate: [{data: chexpert}]\n", resolver())
    assert "sweep.yaml:11:19: evaluate[0].data: 'finetune' is scored" in str(error.value)


def test_what_is_allowed_marks_the_plan_and_the_jobs_and_changes_no_id(tmp_path: Path) -> None:
    plain = plan_of(tmp_path, sweep())
    plan = plan_of(tmp_path, sweep(ALLOW), resolver())
    assert [job.job_id for job in plan.jobs] == [job.job_id for job in plain.jobs]
    sentence = f"'finetune' is scored on 'chexpert' (test), and 'pretrain' trains on 'mimic': {WHY}"
    assert [one.sentence for one in plan.contamination] == [sentence]
    marked = [job for job in plan.jobs if job.contamination]
    assert marked == jobs_of(plan, "finetune", Stage.EVALUATE, target="chexpert", after="pretrain")
    assert all(job.contamination == (sentence,) for job in marked)
    assert all(spec_from_json(spec_to_json(job)) == job for job in plan.jobs)
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan
    assert "contamination" not in plan_text(plain)


def test_an_allowance_that_nothing_needs_is_said(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, sweep(ALLOW))
    assert not plan.contamination
    assert plan.notes == (
        "allow_contamination: 'chexpert' is not needed, since no test image of it is known to be seen in training: take it out",
    )


def folds(pretrain: str) -> str:
    return f"""\
sweep: folds
data: shenzhen
phases:
  pretrain: {{trainer: moco_cxr{pretrain}}}
  finetune:
    trainer: classification
    after: pretrain
    draws: {{scheme: kfold, folds: 3}}
    pick: {{rule: last}}
    evaluate: [{{data: same, split: held_out}}]
"""


def test_pretraining_on_all_of_what_a_fold_holds_out_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="'pretrain' trains on 'shenzhen': it is not trained on the same fold"):
        plan_of(tmp_path, folds(""))
    assert plan_of(tmp_path, folds(", data: mimic")).jobs


@pytest.mark.parametrize("split", ["test", "val"])
def test_the_own_splits_of_a_card_are_no_contamination(tmp_path: Path, split: str) -> None:
    def never(*asked: Any) -> str:
        return ""

    here = FakeResolver()
    here.overlap = never  # type: ignore[method-assign]
    text = sweep().replace("chexpert, split: test", f"mimic, split: {split}")
    assert not plan_of(tmp_path, text, here).contamination
