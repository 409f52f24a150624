"""What is evaluated, the floor beside it, and what a plan is a plan of."""

from __future__ import annotations

from pathlib import Path

from jobs.spec import Stage, job_id
from orchestrator.expand import expand
from tests.golden.trainers import CATALOG
from tests.orchestrator.planning import CHAIN, FakeResolver, jobs_of, only, plan_of, read


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
