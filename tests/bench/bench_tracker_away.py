"""A training whose MLflow server is away, beside the same one without any: the seconds from its start to its end.

One job of momentum contrast (slim, 64 px, made radiographs), submitted as a person does. The server of the one is an address at which
nobody listens, the other mirrors into a file. They take turns, each round in a new run root, so that nothing is taken over.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from jobs.events import read_events
from jobs.paths import RunPaths
from tests.bench.rows import Row
from tests.orchestrator.mirror.servers import free_port

ROOT = Path(__file__).parents[2]
ROUNDS = 8
SWEEP = """sweep: away
phases:
  pretrain:
    trainer: moco_cxr
    data: phantom_unlabelled
    config: {arch: slim, px: 64, channels: 1, init: random, epochs: 6, batch_size: 64, queue_size: 512, augment: cxr_plus, lr: 1e-3}
    resources: {cpus: 1, time: 30m}
sample: {px: 64, n: 1500}
"""


def measure() -> list[Row]:
    """Train in turns, and compare the middle ones."""
    with TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        (folder / "away.yaml").write_text(SWEEP, encoding="utf-8")
        away = f"http://127.0.0.1:{free_port()}"
        _seconds(folder, "first", "")
        each: dict[str, list[float]] = {"away": [], "file": []}
        for number in range(ROUNDS):
            # Who is first changes, so that a machine that grows slower is nobody's fault.
            order = [("away", away), ("file", "")]
            for which, store in order if number % 2 else order[::-1]:
                each[which].append(_seconds(folder, f"{which}-{number}", store))
    ours, theirs = (statistics.median(each[which]) for which in ("away", "file"))
    spread = statistics.median(abs(one - theirs) for one in each["file"]) / theirs
    return [
        Row(
            what="a training job, its MLflow server away",
            ours=f"{ours:.2f} s",
            beside=f"{theirs:.2f} s (mirrored into a file)",
            against=f"{ours / theirs:.3f} of the time; aim 1.01",
            note=f"median of {ROUNDS} and {ROUNDS}; the middle one beside strays by {100 * spread:.1f} %",
        )
    ]


def _seconds(folder: Path, name: str, store: str) -> float:
    """Submit the sweep with a new run root, and return the seconds from the first event of its job to the last."""
    run = RunPaths(folder / name)
    config = folder / f"{name}.yaml"
    settings = {"backend": "inline", "run_root": str(run.root), "made_root": str(folder / "made"), "cpus": 1, "gpus": 0}
    config.write_text(json.dumps(settings | ({"mlflow": store} if store else {})), encoding="utf-8")
    command = [sys.executable, "-m", "orchestrator", "submit", str(folder / "away.yaml"), "--sample", "--wait", "--cluster", str(config)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    (events,) = run.root.glob("sample/jobs/*/*/attempts/*/events.jsonl")
    times = [float(event["time"]) for event in read_events(events)]
    return times[-1] - times[0]
