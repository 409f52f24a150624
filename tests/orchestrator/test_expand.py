"""What a sweep becomes: labels, configs and parents. Replicates, picks, evaluations and refusals: `tests/orchestrator/expansion`."""

from __future__ import annotations

from pathlib import Path

from jobs.spec import Stage
from orchestrator.model import AxisKind
from tests.golden.trainers import CATALOG
from tests.orchestrator.planning import CHAIN, digest, jobs_of, only, plan_of


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
