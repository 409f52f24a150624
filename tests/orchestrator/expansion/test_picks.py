"""What a pick chooses from, for whom, and when a search is a contest."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.spec import Stage
from orchestrator.errors import SweepError
from orchestrator.model import Plan
from orchestrator.searches import contests_of
from tests.orchestrator.planning import jobs_of, only, plan_of


def test_a_pick_lists_its_candidates_in_grid_order(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        """
        sweep: s
        data: d
        phases:
          pretrain: {trainer: moco_cxr, tune: {lr: [1e-4, 1e-5]}}
          finetune:
            trainer: classification
            after: pretrain
            tune: {weight_decay: [0, 0.1]}
            seeds: 2
            pick: {metric: val/loss, top: 3, checkpoints: all}
            evaluate: [{data: same, split: test}]
        """,
    )
    pick = only(plan, "finetune", Stage.PICK, seed=1)
    head = {key: value for key, value in pick.config.items() if key != "candidates"}
    assert head == {"metric": "val/loss", "mode": "min", "rule": "best", "checkpoints": "all", "top": 3, "scope": "draw"}
    parents = {lr: only(plan, "pretrain", lr=lr).job_id for lr in (1e-4, 1e-5)}
    runs = [only(plan, "finetune", seed=1, lr=lr, weight_decay=decay) for lr in (1e-4, 1e-5) for decay in (0.0, 0.1)]
    assert pick.config["candidates"] == [
        {
            "runs": {"": run.job_id},
            "overrides": {"weight_decay": run.config["weight_decay"]},
            "inputs": {"init": parents[run.labels["lr"]]},
        }
        for run in runs
    ]
    assert [(item.job, item.take, item.role) for item in pick.inputs] == [(run.job_id, "result", "candidate") for run in runs]
    assert (dict(pick.data), pick.seed, pick.loop_version, pick.resources.gpus) == ({}, 0, 0, 0)
    evaluate = only(plan, "finetune", Stage.EVALUATE, seed=1)
    assert dict(evaluate.labels) == {"seed": 1, "target": "d"}
    assert dict(evaluate.config) == {"split": "test", "run": "", "score_per": "study", "views": "max_logit", "cluster": "patient"}
    assert runs[0].config["monitor"] == {"metric": "val/loss", "mode": "min"}
    assert "monitor" not in only(plan, "pretrain", lr=1e-4).config


@pytest.mark.parametrize(
    ("scope", "picks", "run"),
    [("draw", 2 * 2 * 3, ""), ("cell", 2 * 2, "draw=1"), ("sweep", 1, "draw=1,fraction=0.1,freeze=backbone")],
)
def test_scope_says_for_whom_one_winner_is_chosen(tmp_path: Path, scope: str, picks: int, run: str) -> None:
    plan = plan_of(
        tmp_path,
        f"""
        sweep: s
        data: d
        phases:
          a:
            trainer: classification
            compare: {{freeze: [backbone, nothing]}}
            tune: {{lr: [1e-3, 1e-2]}}
            draws: {{fraction: [0.1, 1], repeats: 3}}
            pick: {{metric: val/auroc_macro, scope: {scope}}}
            evaluate: [{{data: same, split: test}}]
        """,
    )
    found = jobs_of(plan, "a", Stage.PICK)
    assert len(found) == picks
    evaluate = only(plan, "a", Stage.EVALUATE, freeze="backbone", fraction=0.1, draw=1)
    pick = plan.by_id()[evaluate.inputs[0].job]
    assert evaluate.inputs[0].run == evaluate.config["run"] == run
    for candidate, lr in zip(pick.config["candidates"], (1e-3, 1e-2), strict=True):
        chosen = plan.by_id()[candidate["runs"][run]]
        assert dict(chosen.labels) == {"freeze": "backbone", "fraction": 0.1, "draw": 1, "lr": lr}
        assert candidate["overrides"] == {"lr": lr}


def test_the_winner_of_some_replicates_runs_on_the_others(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        """
        sweep: s
        data: d
        phases:
          pretrain: {trainer: moco_cxr, compare: {images: [real, scrambled]}, tune: {temperature: [0.1, 0.2]}}
          finetune:
            trainer: classification
            after: pretrain
            tune: {lr: [1e-3, 1e-2]}
            when: [{if: {lr: 1e-2}, set: {weight_decay: 0.5}}]
            draws: {fraction: [0.1, 1], repeats: [2, 1]}
            pick: {metric: val/auroc_macro, scope: cell, on: {fraction: 0.1}}
            evaluate: [{data: same, split: test}]
        """,
    )
    tuned = only(plan, "finetune", images="real", fraction=1.0)
    (role,) = tuned.inputs
    pick = plan.by_id()[role.job]
    assert (role.role, role.take, role.run) == ("tuned", "choice", None)
    assert dict(pick.labels) == {"images": "real"}
    assert tuned.config["tuned_keys"] == ["lr", "weight_decay"]
    assert "lr" not in tuned.config
    assert [candidate["overrides"] for candidate in pick.config["candidates"]] == [
        {"lr": 1e-3, "weight_decay": 0.05},
        {"lr": 1e-2, "weight_decay": 0.5},
    ] * 2
    assert {candidate["inputs"]["init"] for candidate in pick.config["candidates"]} == {
        job.job_id for job in jobs_of(plan, "pretrain", images="real")
    }
    own = only(plan, "finetune", Stage.PICK, images="real", fraction=1.0)
    assert own.config["candidates"] == [{"runs": {"": tuned.job_id}, "overrides": {}, "inputs": {}}]
    evaluated = jobs_of(plan, "finetune", Stage.EVALUATE, images="real")
    assert [(job.labels["fraction"], job.inputs[0].job, job.inputs[0].run) for job in evaluated] == [
        (0.1, pick.job_id, "draw=0,fraction=0.1"),
        (0.1, pick.job_id, "draw=1,fraction=0.1"),
        (1.0, own.job_id, ""),
    ]


SEARCHED = """
    sweep: s
    data: d
    phases:
      a:
        trainer: classification
        config: {{epochs: {epochs}}}
        compare: {{arch: [slim, resnet18]}}
        {axis}
        pick: {{metric: val/auroc_macro{pick}}}
        {rest}
"""
SPACE = "lr: {sample: log_uniform, from: 1e-5, to: 1e-1}, weight_decay: {sample: uniform, from: 0, to: 1}"


def searched(tmp_path: Path, axis: str = "", *, epochs: int = 9, pick: str = "", rest: str = "") -> Plan:
    default = f"search: {{scheduler: asha, samples: 5, metric: val/loss, grace: 2, space: {{{SPACE}}}}}"
    return plan_of(tmp_path, SEARCHED.format(axis=axis or default, epochs=epochs, pick=pick, rest=rest))


def test_search_is_a_tune_axis_whose_samples_go_together(tmp_path: Path) -> None:
    plan = searched(tmp_path)
    trains = jobs_of(plan, "a")
    points = [(job.config["lr"], job.config["weight_decay"]) for job in trains]
    assert len(trains) == 10
    assert len(set(points)) == 5
    assert points[:5] == points[5:], "every arm tries the same points"
    assert (
        "a: 5 samples an arm; on Ray Tune asha on val/loss stops what loses, and which those are depends on who is faster; every other "
        "backend runs all samples in full"
    ) in plan.notes


def test_the_candidates_of_a_pick_are_a_contest_and_its_rule_is_in_the_pick_alone(tmp_path: Path) -> None:
    plan = searched(tmp_path)
    picks = jobs_of(plan, "a", Stage.PICK)
    rule = {"scheduler": "asha", "metric": "val/loss", "mode": "min", "grace": 2}
    assert [pick.config["search"] for pick in picks] == [rule, rule]
    contests = contests_of(plan.jobs)
    assert [contests[job.job_id].pick for job in jobs_of(plan, "a")] == [picks[0].job_id] * 5 + [picks[1].job_id] * 5
    assert contests[jobs_of(plan, "a")[0].job_id].epochs == dict.fromkeys((job.job_id for job in jobs_of(plan, "a")[:5]), 9)

    lr = [job.config["lr"] for job in jobs_of(plan, "a")[:5]]
    decay = [job.config["weight_decay"] for job in jobs_of(plan, "a")[:5]]
    full = searched(tmp_path, f"tune: {{zip: {{lr: {lr}, weight_decay: {decay}}}}}")
    assert [job.job_id for job in jobs_of(full, "a")] == [job.job_id for job in jobs_of(plan, "a")], "a sample is the same fact in full"
    assert not {pick.job_id for pick in jobs_of(full, "a", Stage.PICK)} & {pick.job_id for pick in picks}
    assert contests_of(full.jobs) == {}


def test_a_search_of_runs_that_are_pooled_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"phases\.a\.search: stops runs one by one, and a candidate here is 3 runs \(pick\.scope: cell\)"):
        searched(tmp_path, pick=", scope: cell", rest="seeds: 3")
    plan = searched(tmp_path, pick=", scope: cell, on: {seed: [0]}", rest="seeds: 3")
    assert len(contests_of(plan.jobs)) == 10, "the winner's runs elsewhere are in no contest"


def test_a_search_that_can_stop_nothing_says_so(tmp_path: Path) -> None:
    assert (
        "a: every trial gets 2 epochs (search.grace) and none has more than 2, so nothing is stopped" in searched(tmp_path, epochs=2).notes
    )


def test_a_pick_for_each_label_is_another_job_and_an_ordinary_one_is_what_it_was(tmp_path: Path) -> None:
    text = "sweep: s\ndata: d\nphases: {a: {trainer: classification, config: {%s}, pick: {metric: val/auroc_macro%s}}}\n"
    plain = only(plan_of(tmp_path, text % ("lr: 1", "")), "a", Stage.PICK)
    said = only(plan_of(tmp_path, text % ("lr: 1", ", per: run")), "a", Stage.PICK)
    own = only(plan_of(tmp_path, text % ("lr: 1", ", per: label")), "a", Stage.PICK)
    assert plain.job_id == said.job_id != own.job_id
    assert "per" not in plain.config and own.config["per"] == "label"


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        ("per: label", "a: each label picks among the checkpoints that are kept, the 1 best by val/auroc_macro and the last"),
        ("top: 5", "a: pick.top is 5, and keep_best keeps 1 besides the last: raise keep_best"),
        ("top: 2", ""),
    ],
)
def test_a_pick_that_could_use_more_checkpoints_than_are_kept_is_told(tmp_path: Path, rest: str, said: str) -> None:
    from jobs.catalog import find_trainers
    from orchestrator.expand import expand
    from orchestrator.loading import load_sweep
    from tests.orchestrator.planning import FakeResolver

    file = tmp_path / "x.yaml"
    file.write_text(f"sweep: s\ndata: d\nphases: {{a: {{trainer: classification, pick: {{metric: val/auroc_macro, {rest}}}}}}}\n")
    catalog = find_trainers()
    notes = expand(load_sweep(file, catalog=catalog), catalog, FakeResolver()).notes
    assert [note for note in notes if note.startswith("a: ")] == [note for note in notes if said and note.startswith(said)]
    assert bool(said) == any(note.startswith("a: ") for note in notes)


WHEN = """
    sweep: s
    data: d
    phases:
      a:
        trainer: classification
        compare: {preset: [plain, release]}
        tune: {px: [64, 96]}
        seeds: 2
        pick:
          metric: val/auroc_macro
          scope: SCOPE
          when:
            - {if: {preset: release}, set: {checkpoints: all}}
            - {if: {preset: [release, plain], seed: 0}, set: {top: 3}}
        evaluate: [{data: same, split: test}]
"""


def test_what_a_pick_takes_may_depend_on_labels(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, WHEN.replace("SCOPE", "draw"))
    taken = {(job.labels["preset"], job.labels["seed"]): job.config for job in jobs_of(plan, "a", Stage.PICK)}
    assert {key: (config["checkpoints"], config["top"]) for key, config in taken.items()} == {
        ("plain", 0): ("best", 3),
        ("plain", 1): ("best", 1),
        ("release", 0): ("all", 3),
        ("release", 1): ("all", 1),
    }
    assert all("when" not in config for config in taken.values())
    # Which runs there are, and which of their checkpoints are kept, does not depend on it.
    without = plan_of(
        tmp_path, WHEN.replace("SCOPE", "draw").split("          when:")[0] + "        evaluate: [{data: same, split: test}]\n"
    )
    assert [job.job_id for job in jobs_of(plan, "a", Stage.TRAIN)] == [job.job_id for job in jobs_of(without, "a", Stage.TRAIN)]


def test_runs_that_choose_among_themselves_are_not_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SweepError) as caught:
        plan_of(tmp_path, WHEN.replace("SCOPE", "cell"))
    assert "phases.a.pick.when[1]: is met by some of the runs that choose among themselves and not by others" in str(caught.value)
