"""A stage that needs no torch, behind the real seam: what a job does stands in its config. Imported by Ray workers too.

`config`: `seconds` (how long it works, in steps of 10 ms, saving each), `slow` (attempts whose steps take 100 ms), `fail` (a failure kind),
`fail_on` (the attempts that fail; all of them without it), `fail_while` (a file while which is there it fails), `die` (attempts that kill
themselves with SIGKILL half-way), `crash` (the runner raises before anything is claimed), `deaf` (attempts that do not hear that they are
asked to stop), `save_every` (steps from one resume file to the next), `greedy` (MB that it holds while it works), `curve` (the value of
`val/score` after each of its epochs, which share the seconds). Every body leaves a line in `body.log` of its job. A pick with candidates
is the real one.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from jobs import main, picking
from jobs.spec import Input, JobSpec, Json, Resources, Stage, identity_payload, job_id
from jobs.stages import Node, Stopped
from orchestrator.model import Plan, ReportSpec
from trainers.errors import Collapsed, DataError, Diverged

RUNNER = "tests.orchestrator.standin:run"
STEP = 0.01
#: A test that only wants what a job leaves sets it to 0.
PACE = 1.0
SCORE = "val/score"
ASHA = {"scheduler": "asha", "metric": SCORE, "mode": "max", "grace": 1}
_ERRORS: Mapping[str, Callable[[str], Exception]] = {
    "DIVERGED": Diverged,
    "COLLAPSED": Collapsed,
    "BAD_DATA": DataError,
    "ERROR": ValueError,
    "CUDA_OOM": lambda said: RuntimeError(f"CUDA out of memory, {said}"),
}


def run(job_file: Path, *, attempt: int | None = None) -> int:
    """Run a job through the real `jobs.main.run`, with the stage below."""
    if json.loads(job_file.read_text(encoding="utf-8"))["config"].get("crash"):
        raise OSError("the runner itself fell over")
    before, main.run_stage = main.run_stage, stage
    try:
        return main.run(job_file, attempt=attempt)
    finally:
        main.run_stage = before


def stage(node: Node) -> dict[str, Json]:
    """Work for a while, saving progress; go on from it on the next attempt."""
    config = node.spec.config
    if node.spec.stage is Stage.PICK and "candidates" in config:
        return picking.pick(node.spec, node.run)
    attempt = node.paths.attempts()[-1].number
    body = os.open(node.paths.folder / "body.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(body, f"{attempt} {os.getpid()}\n".encode())
    os.close(body)
    progress = node.paths.folder / "progress"
    done = int(progress.read_text()) if progress.exists() else 0
    curve = config.get("curve", ())
    steps = max(round(float(config.get("seconds", 0)) / STEP), len(curve))
    ends = {steps * (epoch + 1) // len(curve): epoch + 1 for epoch in range(len(curve))}
    held = bytearray(int(config.get("greedy", 0)) << 20)
    for step in range(done, steps):
        if node.host.should_stop() and attempt not in config.get("deaf", ()):
            _save(node, step)
            raise Stopped
        time.sleep(PACE * (10 * STEP if attempt in config.get("slow", ()) else STEP))
        aside = progress.with_name(f".progress.{os.getpid()}")
        aside.write_text(str(step + 1))
        aside.replace(progress)
        if step + 1 in ends:
            node.host.log(step + 1, ends[step + 1], {SCORE: curve[ends[step + 1] - 1]})
        if "save_every" in config and (step + 1) % config["save_every"] == 0:
            _save(node, step + 1)
        if attempt in config.get("die", ()) and step >= steps // 2:
            os.kill(os.getpid(), signal.SIGKILL)
    del held
    if attempt in config.get("die", ()):
        os.kill(os.getpid(), signal.SIGKILL)
    if "fail" in config and attempt in config.get("fail_on", (attempt,)) and Path(config.get("fail_while", "/")).exists():
        raise _ERRORS[config["fail"]]("as told")
    kept = [
        {"name": f"epoch-{epoch:04d}", "epoch": epoch, "step": epoch, "metrics": {SCORE: value}, "files": {}}
        for epoch, value in enumerate(curve, start=1)
    ]
    threads = os.environ.get("OMP_NUM_THREADS") and node.spec.resources.cpus
    return {"job_id": node.spec.job_id, "steps": steps, "threads": threads, "checkpoints": kept}


def _save(node: Node, step: int) -> None:
    def write(path: Path) -> None:
        path.write_text(str(step))

    node.host.save_state(step, 0, write)


def job(
    trial: str,
    inputs: tuple[JobSpec, ...] = (),
    *,
    stage: Stage = Stage.TRAIN,
    config: Mapping[str, Json] | None = None,
    resources: Resources | None = None,
    phase: str = "toy",
    resolved: bool = True,
) -> JobSpec:
    """Make a job whose id follows from its trial and config."""
    parts = {
        "stage": stage,
        "trainer": "toy",
        "trainer_version": 1,
        "loop_version": 1,
        "config": {"name": trial, **(config or {})},
        "data": {},
        "seed": 0,
        "inputs": tuple(Input(role="init", job=item.job_id, take="last") for item in inputs),
        "weights": {},
    }
    return JobSpec(
        job_id=job_id(identity_payload(**parts)),
        **parts,
        sweep="toy",
        phase=phase,
        trial=trial,
        labels={},
        resources=resources or Resources(cpus=1),
        resolved=resolved,
    )


def plan(*jobs: JobSpec, sweep: str = "toy") -> Plan:
    """Make a plan of jobs, parents before children."""
    return Plan(sweep=sweep, about="", jobs=jobs, axes=(), report=ReportSpec())


def chain(name: str, *, seconds: float = 0.0, **config: Json) -> tuple[JobSpec, JobSpec, JobSpec]:
    """Make train -> pick -> evaluate; the config is that of the train job."""
    train = job(f"{name}/train", config={"seconds": seconds, **config})
    pick = job(f"{name}/pick", (train,), stage=Stage.PICK)
    return train, pick, job(f"{name}/evaluate", (pick,), stage=Stage.EVALUATE)


def search(
    name: str, curves: Sequence[Sequence[float]], *, seconds: Sequence[float] = (), rule: Mapping[str, Json] | None = ASHA, **config: Json
) -> tuple[JobSpec, ...]:
    """Make train jobs with these curves, the pick that chooses among them by a search's rule (None: without one), and its evaluation."""
    trains = tuple(
        job(f"{name}/train{n}", config={"seconds": lasts, "curve": list(curve), "epochs": len(curve), **config})
        for n, (curve, lasts) in enumerate(zip(curves, seconds or [0.0] * len(curves), strict=True))
    )
    candidates = [{"runs": {"": train.job_id}, "overrides": {"n": n}, "inputs": {}} for n, train in enumerate(trains)]
    asked: dict[str, Json] = {"metric": SCORE, "mode": "max", "candidates": candidates} | ({} if rule is None else {"search": dict(rule)})
    pick = job(f"{name}/pick", trains, stage=Stage.PICK, config=asked)
    return *trains, pick, job(f"{name}/evaluate", (pick,), stage=Stage.EVALUATE)


def bodies(folder: Path) -> list[tuple[int, int]]:
    """Return (attempt, pid) of every body that ran for a job."""
    log = folder / "body.log"
    if not log.exists():
        return []
    return [(int(attempt), int(pid)) for attempt, pid in (line.split() for line in log.read_text().splitlines())]
