"""What the shipped sweeps promise of each other."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from jobs.catalog import find_trainers
from jobs.spec import Stage
from orchestrator.arms import arms, partners
from orchestrator.expand import expand
from orchestrator.loading import load_sweep
from tests.orchestrator.planning import FakeResolver
from trainers.data.cards import load_card

SWEEPS = Path(__file__).parents[2] / "sweeps"


def pretrainings(name: str) -> set[str]:
    catalog = find_trainers()
    labels = {"shenzhen": ("tuberculosis",), "chexpert": ("pleural_effusion",)}
    plan = expand(load_sweep(SWEEPS / f"{name}.yaml", catalog=catalog), catalog, FakeResolver(label_names=labels))
    return {job.job_id for job in plan.jobs if job.phase == "pretrain" and job.stage is Stage.TRAIN}


def test_shenzhen_starts_from_the_pretrainings_of_the_study_on_chexpert() -> None:
    assert pretrainings("moco_cxr_shenzhen") == pretrainings("moco_cxr_paper")
    assert len(pretrainings("moco_cxr_paper")) == 6


def test_ark_5_is_ark_6_without_mimic_and_neither_opens_a_test_set() -> None:
    catalog = find_trainers()
    six, five = (expand(load_sweep(SWEEPS / f"ark{n}_pretrain.yaml", catalog=catalog), catalog, FakeResolver()) for n in (6, 5))
    (large,), (small,) = ([job for job in plan.jobs if job.stage is Stage.TRAIN] for plan in (six, five))
    cards = [[source["card"] for source in job.data["sources"]] for job in (large, small)]
    assert cards[0] == ["mimic_cxr", *cards[1]] and len(cards[1]) == 5
    assert large.config == small.config and large.config["monitor"] == {"metric": "val/mean_auroc", "mode": "max"}
    assert not [job for plan in (six, five) for job in plan.jobs if job.stage is Stage.EVALUATE]


def test_the_ablation_of_ark_sets_all_sources_against_one_at_a_time_with_as_many_passes_and_as_many_steps() -> None:
    catalog = find_trainers()
    plan = expand(load_sweep(SWEEPS / "ark_ablation.yaml", catalog=catalog), catalog, FakeResolver())
    trained = Counter(job.phase for job in plan.jobs if job.stage is Stage.TRAIN)
    assert trained == {"all_sources": 5 * 5, "alone": 3 * 5, "as_many_steps": 3 * 3}
    scored = [job for job in plan.jobs if job.stage is Stage.EVALUATE]
    assert len(scored) == 25 * 3 + 15 + 9
    assert all(job.labels["target"] == job.labels["data"] for job in scored if job.phase != "all_sources")
    steps = {"made_hospital_a": 35, "made_hospital_b": 20, "made_hospital_c": 55}
    cycles = {
        (job.phase, job.labels["data"]): job.config["epochs"] for job in plan.jobs if job.stage is Stage.TRAIN and "data" in job.labels
    }
    (passes,) = {job.config["epochs"] for job in plan.jobs if job.stage is Stage.TRAIN and job.phase == "all_sources"}
    for card, own in steps.items():
        assert cycles["alone", card] == passes and cycles["as_many_steps", card] * own == passes * sum(steps.values())
    # Models of single sources are set against one arm of all sources, and so are its parts.
    single, parts = (partners(arms(plan), contrast.baseline) for contrast in plan.report.contrasts)
    assert Counter(arm.phase for arm, _ in single) == {"alone": 3, "as_many_steps": 3}
    assert len({arm.name for arm, _ in parts}) == 4 and {arm.phase for arm, _ in parts} == {"all_sources"}
    assert {base.name for _, base in (*single, *parts)} == {"all_sources/mode=cyclic,consistency=0.5,export=teacher"}


def test_masked_pretraining_has_the_six_starts_of_its_table_and_says_what_its_pool_holds() -> None:
    catalog = find_trainers()
    sweep = load_sweep(SWEEPS / "benchmark_simmim.yaml", catalog=catalog)
    plan = expand(sweep, catalog, FakeResolver(label_names={}))
    pretrained = [job for job in plan.jobs if job.phase in ("one_set", "pool") and job.stage is Stage.TRAIN]
    assert (
        len(pretrained) == 4 and {job.config["px"] for job in pretrained} == {192} and {job.config["window"] for job in pretrained} == {6}
    )
    runs = [job for job in plan.jobs if job.phase == "target" and job.stage is Stage.TRAIN]
    starts = {(job.labels["after"], job.labels["init"]) for job in runs}
    assert len(starts) == 6 and len(runs) == 6 * 5 * 10
    # Every start and set of the table has its published value.
    assert len(sweep.report.reference) == 6 * 5


def test_the_transfer_of_ark_follows_the_teacher_of_ark_6_into_ten_targets_ten_times() -> None:
    catalog = find_trainers()
    masks = ("montgomery", "jsrt_lung", "jsrt_heart", "jsrt_clavicle", "vindr_ribcxr")
    tasks = dict.fromkeys(masks, "segmentation")
    plans = {
        name: expand(load_sweep(SWEEPS / f"{name}.yaml", catalog=catalog), catalog, FakeResolver(tasks=tasks))
        for name in ("ark6_pretrain", "ark_transfer", "ark_embeddings")
    }
    (ark,) = (job for job in plans["ark6_pretrain"].jobs if job.stage is Stage.TRAIN)
    transfer = plans["ark_transfer"].jobs
    counts = Counter((job.phase, job.stage) for job in transfer)
    assert len(transfer) == 752 and all(counts["ark", stage] == 1 for stage in (Stage.TRAIN, Stage.PICK))
    assert all(counts[phase, stage] == 100 for phase in ("transfer", "segment") for stage in Stage)
    # A floor for each target that is classified; there is none of masks.
    assert {job.phase for job in transfer} == {"ark", "transfer", "segment", "floor"} and counts["floor", Stage.EVALUATE] == 50
    for name in ("ark_transfer", "ark_embeddings"):
        assert ark.job_id in {job.job_id for job in plans[name].jobs}
    trained = {(job.labels["data"], job.labels["after"]) for job in transfer if job.phase == "segment"}
    assert trained == {(card, after) for card in masks for after in ("ark", "none")}
    drawn = {
        phase: [job.data for job in plans["ark_embeddings"].jobs if job.phase == phase and job.stage is Stage.TRAIN]
        for phase in ("features", "external")
    }
    assert drawn["features"] == 2 * drawn["external"] and len(drawn["external"]) == 33


def test_unichest_divides_what_it_conquered_and_is_asked_on_eight_cards() -> None:
    catalog = find_trainers()
    plan = expand(load_sweep(SWEEPS / "unichest.yaml", catalog=catalog), catalog, FakeResolver())
    counts = Counter((job.phase, job.stage) for job in plan.jobs)
    assert len(plan.jobs) == 30 and counts["conquer", Stage.EVALUATE] == 8 and counts["divide", Stage.EVALUATE] == 16
    (conquer,) = (job for job in plan.jobs if job.phase == "conquer" and job.stage is Stage.PICK)
    divided = [job for job in plan.jobs if job.phase == "divide" and job.stage is Stage.TRAIN]
    assert {job.config["gate"] for job in divided} == {"learned", "equal"}
    assert all(conquer.job_id in {one.job for one in job.inputs} for job in divided)
    # What a parent hands on is its start; the text encoder's files stay the job's own.
    assert all("init" not in job.config and {"text", "vocabulary", "reports"} <= set(job.config) for job in divided)


def test_the_made_study_of_unichest_and_its_null_twin_differ_in_their_sources_alone() -> None:
    catalog = find_trainers()
    made, null = (
        expand(load_sweep(SWEEPS / f"{name}.yaml", catalog=catalog), catalog, FakeResolver()) for name in ("unichest_made", "unichest_null")
    )
    for plan in (made, null):
        counts = Counter((job.phase, job.stage) for job in plan.jobs)
        # Three pretrainings, each divided with a gate, with equal weights and with augmentation; all on every test set.
        assert counts["conquer", Stage.TRAIN] == 3 and counts["divide", Stage.TRAIN] == 9
        assert counts["conquer", Stage.EVALUATE] == 9 and counts["divide", Stage.EVALUATE] == 27
        (contrast,) = plan.report.contrasts
        pairs = partners(arms(plan), contrast.baseline)
        assert {base.phase for _, base in pairs} == {"conquer"} and len(pairs) == 3
    theirs, mine = ([job.config for job in plan.jobs if job.stage is Stage.TRAIN] for plan in (made, null))
    assert theirs == mine
    hospitals, twins = ([load_card(source["card"]).made["parameters"] for source in plan.jobs[0].data["sources"]] for plan in (made, null))
    assert len({one["source"] for one in hospitals}) == 3 and len({one["source"] for one in twins}) == 1
    assert sorted(one["patients_train"] for one in hospitals) == sorted(one["patients_train"] for one in twins)
    named = [set(range(one["first_patient"], one["first_patient"] + one["patients_train"] + one["patients_valid"])) for one in twins]
    assert len(set().union(*named)) == sum(map(len, named))
    assert all({**one, "first_patient": 0, "patients_train": 0} == {**twins[0], "first_patient": 0, "patients_train": 0} for one in twins)
