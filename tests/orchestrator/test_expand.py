"""What a sweep becomes: labels, configs, parents, replicates, picks, evaluations."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from jobs.catalog import Declaration
from jobs.spec import Stage, job_id
from orchestrator.errors import SweepError
from orchestrator.expand import expand
from orchestrator.expansion.replicates import training_seed
from orchestrator.loading import load_sweep
from orchestrator.model import AxisKind, Plan
from orchestrator.searches import contests_of
from tests.golden.trainers import CATALOG
from tests.orchestrator.planning import FakeResolver, digest, jobs_of, only, plan_of, read

BAD = yaml.safe_load((Path(__file__).parent / "bad_sweeps" / "expanding.yaml").read_text(encoding="utf-8"))

CHAIN = """
    sweep: chain
    data: chexpert
    compare: {init: [imagenet, random], arch: [resnet18, resnet50]}
    phases:
      pretrain:
        trainer: moco_cxr
        tune: {lr: [1e-5, 1e-4]}
      finetune:
        trainer: classification
        compare: {after: [pretrain, none]}
        draws: {fraction: [0.1, 1], repeats: [2, 1]}
        pick: {metric: val/auroc_macro}
        evaluate: [{data: same, split: test}]
"""


def test_a_start_belongs_to_the_parent_and_other_shared_keys_to_both(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, CHAIN)
    pretrain = only(plan, "pretrain", init="random", arch="resnet50", lr=1e-5)
    assert (pretrain.config["init"], pretrain.config["arch"]) == ("random", "resnet50")
    child = only(plan, "finetune", init="random", arch="resnet50", lr=1e-5, fraction=0.1, draw=0)
    assert "init" not in child.config
    assert child.config["arch"] == "resnet50"
    assert child.inputs[0].job == pretrain.job_id
    alone = jobs_of(plan, "finetune", after="none")
    assert len(alone) == 2 * 2 * 3
    assert {(job.config["init"], job.config["arch"]) for job in alone} == {
        (init, arch) for init in ("imagenet", "random") for arch in ("resnet18", "resnet50")
    }
    assert all("lr" not in job.labels and not job.inputs for job in alone)


def test_every_field_is_in_the_resolved_config_and_numbers_have_their_type(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "sweep: s\ndata: d\nphases: {a: {trainer: moco_cxr, config: {lr: 1, momentum_end: 1e0}}}\n")
    (job,) = plan.jobs
    assert set(job.config) == set(CATALOG["moco_cxr"].config.__dataclass_fields__)
    assert type(job.config["lr"]) is float
    assert type(job.config["momentum_end"]) is float
    assert job.config["milestones"] == [12, 18]


def test_external_weights_stand_in_the_id_by_digest_and_not_by_path(tmp_path: Path) -> None:
    text = "sweep: s\ndata: d\nphases: {{a: {{trainer: classification, after: {{weights: {}}}}}}}\n"
    (job,) = plan_of(tmp_path, text.format("x/one.pt")).jobs
    assert dict(job.weights) == {"init": digest("x/one.pt/resnet18")}
    assert "init" not in job.config
    assert "one.pt" not in str(job.identity())
    text = "sweep: s\ndata: d\nphases: {{a: {{trainer: classification, config: {{init: {}}}}}}}\n"
    (own,) = plan_of(tmp_path, text.format("y/own.pt")).jobs
    assert dict(own.weights) == {"init": digest("y/own.pt/resnet18")}
    assert own.config["init"] == "file"
    (scratch,) = plan_of(tmp_path, text.format("random")).jobs
    assert (dict(scratch.weights), scratch.config["init"]) == ({}, "random")


def test_a_weights_file_as_an_alternative_does_not_multiply_by_starts(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        """
        sweep: s
        data: d
        compare: {init: [imagenet, random]}
        phases:
          a: {trainer: classification, compare: {after: [none, {weights: w.pt}], freeze: [backbone, nothing]}}
        """,
    )
    assert len(jobs_of(plan, "a", after="none")) == 4
    assert [job.labels for job in jobs_of(plan, "a", after="w.pt")] == [
        {"after": "w.pt", "freeze": "backbone"},
        {"after": "w.pt", "freeze": "nothing"},
    ]


def test_a_key_that_an_ancestor_has_too_is_named_after_its_phase(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        """
        sweep: s
        data: d
        phases:
          pretrain: {trainer: moco_cxr, compare: {lr: [1e-5, 1e-4]}}
          finetune:
            trainer: classification
            compare: {after: [pretrain, none]}
            tune: {lr: [1e-3, 1e-2]}
            when: [{if: {pretrain.lr: 1e-5, finetune.lr: 1e-2}, set: {epochs: 7}}]
            pick: {metric: val/auroc_macro}
        """,
    )
    both = only(plan, "finetune", lr=1e-5, **{"finetune.lr": 1e-2})
    assert (both.config["lr"], both.config["epochs"]) == (1e-2, 7)
    assert {job.config["epochs"] for job in jobs_of(plan, "finetune") if job is not both} == {50}
    assert sorted(job.labels["finetune.lr"] for job in jobs_of(plan, "finetune", after="none")) == [1e-3, 1e-2]
    kinds = {axis.name: (axis.kind, axis.phase, axis.values) for axis in plan.axes}
    assert kinds["lr"] == (AxisKind.COMPARE, "pretrain", (1e-5, 1e-4))
    assert kinds["finetune.lr"] == (AxisKind.TUNE, "finetune", (1e-3, 1e-2))
    assert [len(job.config["candidates"]) for job in jobs_of(plan, "finetune", Stage.PICK)] == [2, 2, 2]


def test_when_is_applied_in_order_and_the_label_keeps_the_axis_value(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        """
        sweep: s
        data: d
        phases:
          a:
            trainer: classification
            compare: {lr: [1e-3, 1e-2]}
            when:
              - {if: {lr: 1e-2}, set: {lr: 5e-2, epochs: 3}, override: true}
              - {if: {lr: [1e-2]}, set: {epochs: 4}}
        """,
    )
    high = only(plan, "a", lr=1e-2)
    assert (high.config["lr"], high.config["epochs"], high.labels["lr"]) == (5e-2, 4, 1e-2)
    assert only(plan, "a", lr=1e-3).config["epochs"] == 50


# --- replicates


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


# --- parents


def test_parents_meet_on_the_labels_that_they_share(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        """
        sweep: s
        data: d
        phases:
          global: {trainer: ag_cnn, compare: {backbone: [resnet50, densenet121]}, seeds: 2, pick: {metric: val/auroc_macro}}
          local:
            trainer: ag_cnn
            after: {global: global}
            compare: {statistic: [max, l1]}
            exclude: [{backbone: densenet121, statistic: l1}]
            pick: {metric: val/auroc_macro}
          fusion: {trainer: ag_cnn, after: {local: local, global: global}, config: {branch: fusion}}
        """,
    )
    by_id = plan.by_id()
    found = jobs_of(plan, "fusion")
    assert len(found) == 2 * 3
    for job in found:
        roles = {item.role: by_id[item.job] for item in job.inputs}
        assert sorted(roles) == ["global", "local"]
        for parent in roles.values():
            assert all(job.labels[name] == value for name, value in parent.labels.items())
        local_train = by_id[roles["local"].inputs[0].job]
        assert local_train.inputs[0].job == roles["global"].job_id
    assert [item.role for item in found[0].inputs] == ["global", "local"]


def test_a_phase_without_pick_hands_on_its_last_or_a_named_epoch(tmp_path: Path) -> None:
    text = "sweep: s\ndata: d\nphases:\n  a: {{trainer: moco_cxr{}}}\n  b: {{trainer: classification, after: a}}\n"
    for given, take in (("", "last"), (", hand_on: {epoch: 10}", "epoch:10"), (", pick: {metric: val/knn}", "choice")):
        child = only(plan_of(tmp_path, text.format(given)), "b")
        assert [(item.role, item.take, item.run) for item in child.inputs] == [("init", take, "" if take == "choice" else None)]


def test_an_imported_phase_has_the_ids_that_it_has_at_home(tmp_path: Path) -> None:
    home = plan_of(
        tmp_path,
        """
        sweep: home
        seed: 5
        data: d
        compare: {init: [imagenet, random]}
        phases: {pretrain: {trainer: moco_cxr, tune: {lr: [1e-5, 1e-4]}, pick: {metric: val/knn}, evaluate: [{data: d, split: val}]}}
        """,
    )
    (tmp_path / "home.yaml").write_text((tmp_path / "sweep.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    away = plan_of(
        tmp_path,
        """
        sweep: away
        uses: [home.yaml]
        compare: {init: [random], arch: [resnet18, resnet50]}
        phases: {finetune: {trainer: classification, data: e, after: pretrain, seeds: 2}}
        """,
    )
    kept = {job.job_id for job in home.jobs if job.stage is not Stage.EVALUATE}
    assert {job.job_id for job in away.jobs if job.phase == "pretrain"} == kept
    assert len(jobs_of(away, "finetune")) == 2 * 2 * 2


# --- picks


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


# --- evaluations, floor, report


def test_two_targets_of_one_card_have_two_labels(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        """
        sweep: s
        data: d
        phases:
          a:
            trainer: classification
            pick: {metric: val/auroc_macro}
            evaluate:
              - {data: same, split: test}
              - {data: same, split: val}
              - {data: e, split: test, score_per: image}
              - {data: e, split: test, score_per: patient, views: mean_prob, cluster: study}
        """,
    )
    shown = {job.labels["target"]: job.config for job in jobs_of(plan, "a", Stage.EVALUATE)}
    assert list(shown) == ["d/test", "d/val", "e/test/image/None", "e/test/patient/mean_prob"]
    assert shown["e/test/patient/mean_prob"]["cluster"] == "study"
    assert shown["e/test/image/None"]["views"] == "max_logit"


def test_the_floor_has_the_same_draws_and_targets(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, CHAIN + "    report: {baseline: {after: none}, floor: true}\n")
    floor = jobs_of(plan, "floor")
    assert [dict(job.labels) for job in floor] == [
        {"after": "floor", "fraction": 0.1, "draw": 0},
        {"after": "floor", "fraction": 0.1, "draw": 1},
        {"after": "floor", "fraction": 1.0, "draw": 0},
    ]
    other = only(plan, "finetune", after="none", init="random", arch="resnet18", fraction=0.1, draw=1)
    assert floor[1].data == other.data
    assert floor[0].trainer == "thumbnail"
    assert len(jobs_of(plan, "floor", Stage.EVALUATE)) == 3
    assert [job.config["rule"] for job in jobs_of(plan, "floor", Stage.PICK)] == ["last"] * 3


def test_each_last_phase_has_a_floor_of_its_own(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        """
        sweep: s
        phases:
          a: {trainer: classification, compare: {data: [d, e]}, pick: {metric: val/x}, evaluate: [{data: same, split: test}]}
          b: {trainer: classification, data: d, seeds: 2, pick: {metric: val/x}, evaluate: [{data: same, split: test}]}
          c: {trainer: classification, data: d}
        report: {floor: true}
        """,
    )
    assert [job.labels["data"] for job in jobs_of(plan, "floor_a")] == ["d", "e"]
    assert len(jobs_of(plan, "floor_b")) == 2
    assert not jobs_of(plan, "floor_c")


def test_a_target_without_a_common_label_is_noted(tmp_path: Path) -> None:
    text = """
        sweep: s
        data: d
        phases:
          a: {trainer: classification, pick: {metric: val/x}, evaluate: [{data: same, split: test}, {data: tb, split: test}]}
    """
    assert plan_of(tmp_path, text).notes == ()
    plan = plan_of(tmp_path, text, FakeResolver(label_names={"tb": ("tuberculosis",)}))
    assert plan.notes == ("a: 'tb' shares no label with d, so nothing of it can be scored",)


def test_data_out_of_reach_make_ids_provisional_all_the_way_down(tmp_path: Path) -> None:
    text = """
        sweep: s
        phases:
          a: {trainer: moco_cxr, data: far}
          b: {trainer: classification, data: near, after: a, pick: {metric: val/x}, evaluate: [{data: same, split: test}]}
          c: {trainer: classification, data: near, pick: {metric: val/x}, evaluate: [{data: far, split: test}]}
    """
    plan = plan_of(tmp_path, text, FakeResolver(missing=frozenset({"far"})))
    assert [(job.phase, str(job.stage)) for job in plan.jobs if job.resolved] == [("c", "train"), ("c", "pick")]
    assert "data 'far' is not here" in plan.notes
    here = plan_of(tmp_path, text)
    assert all(job.resolved for job in here.jobs)
    assert {job.job_id for job in here.jobs} & {job.job_id for job in plan.jobs if not job.resolved} == set()


def test_every_id_is_the_hash_of_the_whole_identity(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, CHAIN)
    assert all(job.job_id == job_id(job.identity()) for job in plan.jobs)


def test_the_same_question_is_asked_of_the_resolver_once(tmp_path: Path) -> None:
    resolver = FakeResolver()
    plan_of(tmp_path, CHAIN, resolver)
    assert resolver.asked == ["chexpert"]


def test_expansion_changes_nothing_that_it_is_given(tmp_path: Path) -> None:
    sweep = read(tmp_path, CHAIN)
    before = repr(sweep)
    assert expand(sweep, CATALOG, FakeResolver()) == expand(sweep, CATALOG, FakeResolver())
    assert repr(sweep) == before


# --- what is refused


@pytest.mark.parametrize("case", BAD, ids=lambda case: case["name"])
def test_a_bad_sweep_is_refused_at_its_place(case: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(case["sweep"], encoding="utf-8")
    sweep = load_sweep(Path("bad.yaml"), catalog=CATALOG)
    with pytest.raises(SweepError) as raised:
        expand(sweep, CATALOG, FakeResolver())
    assert str(raised.value) == case["error"].rstrip("\n")


def test_what_the_loader_refuses_is_refused_of_a_sweep_made_by_hand_too(tmp_path: Path) -> None:
    sweep = read(tmp_path, CHAIN)
    pretrain, finetune = sweep.phases
    assert finetune.pick is not None
    wrong = {
        "phases.finetune.evaluate: evaluates without a pick": (pretrain, replace(finetune, pick=None)),
        "phases.finetune.evaluate[0].data: 'same' is no single card": (pretrain, replace(finetune, data=None, sources=("d", "e"))),
        "phases.finetune.evaluate[0].split: 'held_out' is what a fold leaves out": (
            pretrain,
            replace(finetune, evaluate=(replace(finetune.evaluate[0], split="held_out"),)),
        ),
        "phases.finetune.after: there is no phase 'pretrain'": (finetune,),
        "phases.pretrain.after: goes in a circle: pretrain after finetune after pretrain": (
            replace(pretrain, after=finetune.after),
            finetune,
        ),
        "phases.pretrain.trainer: there is no trainer 'nobody'": (replace(pretrain, trainer="nobody"), finetune),
        "phases: there is nothing to run": (),
    }
    circular = wrong["phases.pretrain.after: goes in a circle: pretrain after finetune after pretrain"]
    back = replace(circular[0].after[0], roles={"init": "finetune"})
    wrong["phases.pretrain.after: goes in a circle: pretrain after finetune after pretrain"] = (replace(pretrain, after=(back,)), finetune)
    for message, phases in wrong.items():
        with pytest.raises(SweepError, match=re.escape(message)):
            expand(replace(sweep, phases=phases), CATALOG, FakeResolver())


@dataclass(frozen=True, slots=True, kw_only=True)
class Fussy:
    """A config that looks at its fields together, and one of them has no default."""

    width: int
    height: int = 1

    def __post_init__(self) -> None:
        """Refuse what is wider than high."""
        if self.width > self.height:
            raise ValueError("width is more than height")


def test_a_trainer_may_refuse_a_combination(tmp_path: Path) -> None:
    catalog = {"fussy": Declaration(name="fussy", version=1, config=Fussy, package="x")}
    text = "sweep: s\ndata: d\nphases: {{a: {{trainer: fussy, config: {{{}}}, compare: {{height: [1, 2]}}}}}}\n"
    path = tmp_path / "fussy.yaml"
    path.write_text(text.format("width: 1"), encoding="utf-8")
    assert len(expand(load_sweep(path, catalog=catalog), catalog, FakeResolver()).jobs) == 2
    path.write_text(text.format("width: 2"), encoding="utf-8")
    with pytest.raises(SweepError, match=re.escape("phases.a.config: width is more than height (at height=1)")):
        expand(load_sweep(path, catalog=catalog), catalog, FakeResolver())
    sweep = load_sweep(path, catalog=catalog)
    (phase,) = sweep.phases
    with pytest.raises(SweepError, match="the trainer 'fussy' needs 'width': set it in config, or make it an axis"):
        expand(replace(sweep, phases=(replace(phase, config={}),)), catalog, FakeResolver())


def test_the_same_sweep_without_its_fault_expands(tmp_path: Path) -> None:
    mended = [case for case in BAD if "without" in case]
    assert len(mended) > 10
    for case in mended:
        lines = case["sweep"].splitlines()
        good = "\n".join(line for line in lines if line.strip() != case["without"])
        assert len(good) < len(case["sweep"].rstrip("\n")), case["name"]
        assert plan_of(tmp_path, good).jobs, case["name"]
