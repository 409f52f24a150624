"""What runs used and lost, from lines of sacct as the real one prints them."""

from __future__ import annotations

import time

import pytest

from jobs.spec import JobSpec, Resources, Stage
from orchestrator import intents
from orchestrator.backends.slurm.efficiency import GONE, Run, runs, summed
from orchestrator.intents import Intent
from tests.orchestrator.standin import job, plan

ASKED = Resources(gpus=1, memory_mb=32 * 1024, time_minutes=720)
TRAINS = tuple(job(f"t{n}", resources=ASKED, phase="pretrain") for n in range(4))
PLAN = plan(*TRAINS)


def intent(*specs: JobSpec, native: str = "7", array: bool = True, **terms: float) -> Intent:
    return Intent(
        sid="a" * 32,
        owner={},
        backend="slurm",
        sweep="toy",
        created=time.time(),
        jobs={spec.job_id: 1 for spec in specs},
        native={"id": native, "array": array},
        detaches=True,
        elements=tuple(((spec.job_id,),) for spec in specs),
        terms={"gpus": 1, "memory_mb": ASKED.memory_mb, "minutes": ASKED.time_minutes, **terms},
    )


def lines(name: str) -> str:
    """What `sacct -D -n -P` prints of an array: element 0 requeued once, 1 failed, 2 ran, 3 waits."""
    return "\n".join(
        (
            f"7_0|{name}|PREEMPTED|600|||1",
            "7_0.batch|batch|CANCELLED|600|2000K|1|1",
            "7_0.0|python3|CANCELLED|600|4194304K|1|1",
            f"7_0|{name}|COMPLETED|3600|||1",
            "7_0.0|python3|COMPLETED|3600|2G|1|1",
            f"7_1|{name}|FAILED|1800|||1",
            f"7_2|{name}|COMPLETED|7200|||2",
            "7_2.0|python3|COMPLETED|7200|1024M|4|2",
            f"7_3|{name}|PENDING|0|||1",
            "9|other|COMPLETED|99999|||1",
            "not|a|row",
        )
    )


def test_every_run_is_read_with_the_memory_of_its_own_steps() -> None:
    mine = intent(*TRAINS)
    found = [(run.index, run.word, run.seconds, run.memory_mb) for run in runs(lines(mine.name), [mine])]
    assert found == [
        (0, "PREEMPTED", 600.0, 4096.0),
        (0, "COMPLETED", 3600.0, 2048.0),
        (1, "FAILED", 1800.0, 0.0),
        # Four tasks on two nodes: two of them share a node's memory.
        (2, "COMPLETED", 7200.0, 2048.0),
    ]


def test_an_id_that_was_given_again_to_somebody_else_is_not_ours() -> None:
    assert runs("7|their-job|COMPLETED|10|||1\n7.0|step|COMPLETED|10|5G|1|1", [intent(*TRAINS)]) == []


def test_a_single_job_and_one_that_was_cancelled_by_somebody_are_read() -> None:
    single = intent(TRAINS[0], native="8", array=False)
    found = runs(f"8|{single.name}|CANCELLED by 1000|60|||1\n8.0|python3|CANCELLED|60|1G|1|1", [single])
    assert [(run.index, run.word, run.memory_mb) for run in found] == [(0, "CANCELLED", 1024.0)]


def test_gpu_hours_are_summed_and_those_of_bad_ends_told_apart() -> None:
    mine = intent(*TRAINS)
    found = summed(PLAN, runs(lines(mine.name), [mine]))
    (row,) = found.rows
    assert (row.phase, row.stages, row.allocations, row.runs) == ("pretrain", "train", 3, 4)
    assert row.gpu_hours == pytest.approx((600 + 3600 + 1800 + 7200) / 3600)
    assert row.lost_gpu_hours == pytest.approx((600 + 1800) / 3600)
    assert row.lost_runs == {"FAILED": 1, "PREEMPTED": 1}
    assert (row.memory_used_mb, row.memory_asked_mb) == (4096, 32 * 1024)
    assert (row.hours_used, row.hours_asked) == (2.0, 12.0)
    assert found.gpu_hours == row.gpu_hours
    # Two that ended well are too few to advise on.
    assert row.advice == ()


def ended(mine: Intent, *, hours: float, memory_gb: float, word: str = "COMPLETED", number: int = 3) -> list[Run]:
    return [Run(intent=mine, index=n, word=word, seconds=3600 * hours, memory_mb=1024 * memory_gb) for n in range(number)]


def test_asking_for_much_too_much_is_advised_against_in_the_words_of_a_sweep() -> None:
    (row,) = summed(PLAN, ended(intent(*TRAINS), hours=1.1, memory_gb=4.0)).rows
    assert row.advice == (
        "`memory: 5G` is enough: 4.0 of 32.0 G were used at most",
        "`time: 105m` is enough, and short jobs start sooner: the longest took 1 h 06 min of 12 h 00 min",
    )


def test_asking_for_too_little_is_advised_against() -> None:
    mine = intent(*TRAINS)
    found = [*ended(mine, hours=11.5, memory_gb=31), *ended(mine, hours=12, memory_gb=0, word="TIMEOUT", number=1)]
    (row,) = summed(PLAN, found).rows
    assert row.advice == (
        "`memory: 40G` is safer: 31.0 of 32.0 G were used at most",
        "`time: 18h` is safer: the longest took 11 h 30 min of 12 h 00 min, and 1 reached the limit",
    )


def test_asking_for_what_is_needed_is_not_advised_on() -> None:
    (row,) = summed(PLAN, ended(intent(*TRAINS), hours=6, memory_gb=20)).rows
    assert row.advice == ()


def test_advice_on_a_chain_and_a_packed_allocation_is_for_one_job() -> None:
    """An allocation of four jobs side by side has four times the memory, and a chain the sum of its times."""
    one = Resources(gpus=1, memory_mb=8 * 1024, time_minutes=120, pack=4)
    train = job("t", resources=one)
    evaluate = job("e", (train,), resources=one, stage=Stage.EVALUATE)
    mine = intent(train, memory_mb=4 * 8 * 1024, minutes=240)
    mine = Intent(**{name: getattr(mine, name) for name in mine.__slots__} | {"elements": (((train.job_id, evaluate.job_id),),)})
    found = [Run(intent=mine, index=0, word="COMPLETED", seconds=1200, memory_mb=4096) for _ in range(3)]
    (row,) = summed(plan(train, evaluate), found).rows
    assert row.stages == "train+evaluate"
    assert row.advice == (
        "`memory: 2G` is enough: 4.0 of 32.0 G were used at most",
        "`time: 15m` is enough, and short jobs start sooner: the longest took 20 min of 4 h 00 min",
    )


def test_of_a_ray_cluster_its_time_is_advised_on_and_what_jobs_ask_for_is_not() -> None:
    mine = intent(TRAINS[0], array=False, node_cpus=32)
    (row,) = summed(PLAN, ended(mine, hours=1.1, memory_gb=4.0, number=1)).rows
    told = "a Ray cluster of whole nodes: accounting knows what all jobs used together and not each, so it advises on no `resources`"
    assert row.advice == ("`allocation: {time: 105m}` is enough: it was given back after 1 h 06 min of 12 h 00 min", told)
    assert (row.memory_asked_mb, row.memory_used_mb, row.hours_asked) == (32 * 1024, 4096, 12.0)
    (row,) = summed(PLAN, ended(mine, hours=11, memory_gb=4.0, number=1)).rows
    assert row.advice == (told,)


def test_what_an_edited_sweep_no_longer_has_stands_apart_and_without_advice() -> None:
    (row,) = summed(plan(job("another")), ended(intent(*TRAINS), hours=1, memory_gb=1)).rows
    assert (row.phase, row.gpu_hours, row.advice) == (GONE, 3.0, ())


def test_the_intent_s_name_is_what_slurm_was_given() -> None:
    assert intent(*TRAINS).name == f"orch-{'a' * 12}"
    assert isinstance(intents.new_intent(backend="slurm", sweep="toy", jobs={}).name, str)
