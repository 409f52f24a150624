"""Fine-tuning beside timm's own training script: images a second of the same network and batch, wall time, all cores, taken in turns.

Here is `classification` as a job runs it: through the loop, its views drawn from images that `data prepare` decoded once. Beside it is
`train.py` of timm's repository, unchanged, on an ImageFolder of the same number of made radiographs as PNG files of 1024 px, as they are
released: with no flags but the network, the batch and the device (fp32, NCHW, four workers), and with its best on a CPU (`--amp --amp-dtype
bfloat16 --channels-last`, as many workers as cores). Both train with SGD on crops and flips; a step is from one batch to the next, and the
first two are left out. What preparing costs is a row of its own. The aim of 2.2 is for CPUs that have bfloat16. A step of a transformer is
matrix products for the most part, and how much faster those are in bfloat16 is a row too: no precision gives more than that.

The script is not in timm's packages: `TIMM_TRAIN` names a copy of it (https://github.com/huggingface/pytorch-image-models).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from tests.bench.bench_moco import has_bfloat16
from tests.bench.benchmark_beside import PNG_PX, WARM
from tests.bench.rows import Row
from tests.trainers.made_data import made_images, made_rows

HERE = Path(__file__).parent
TURNS = 2
CORES = os.cpu_count() or 1
#: What timm is given besides the network, the batch and the device.
FLAGS: Mapping[str, tuple[str, ...]] = {
    "timm default": (),
    "timm best": ("--amp", "--amp-dtype", "bfloat16", "--channels-last", "--workers", str(CORES)),
}
CONTESTANTS = ("ours bf16", "timm default", "timm best", "ours fp32")
_STEP = re.compile(r"Train: \d+ \[.*?Time: ([\d.]+)s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network of timm, the batch, and how many steps a run takes."""

    arch: str
    batch: int
    steps: int


CASES = (
    Case(arch="resnet18", batch=16, steps=6),
    Case(arch="vit_small_patch16_224", batch=16, steps=6),
    Case(arch="swin_tiny_patch4_window7_224", batch=16, steps=6),
)


def script() -> Path:
    """Return timm's training script. Raises RuntimeError saying how to get it."""
    found = Path(os.environ.get("TIMM_TRAIN", ""))
    if not found.is_file():
        raise RuntimeError("TIMM_TRAIN: names no file; clone timm's repository and set it to the path of its train.py")
    return found


def write_folder(folder: Path, images: int) -> float:
    """Write made radiographs in timm's layout, and return the seconds that decoding and shrinking one takes here."""
    rows = made_rows(images)
    for split, number in (("train", images), ("validation", 2)):
        for position, image in enumerate(made_images(rows.take(np.arange(number)), PNG_PX)):
            place = folder / split / ("positive" if rows.labels[position, 0] == 1 else "negative")
            place.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(place / f"{position:05d}.png"), cv2.GaussianBlur(image, (0, 0), 3))
    files = sorted((folder / "train").rglob("*.png"))
    started = time.perf_counter()
    for file in files:
        cv2.resize(cv2.imread(str(file), cv2.IMREAD_GRAYSCALE), (224, 224), interpolation=cv2.INTER_AREA)  # type: ignore[arg-type]
    return (time.perf_counter() - started) / len(files)


def by_timm(name: str, case: Case, folder: Path) -> list[float]:
    """Return the wall seconds of each step of timm's script, as it prints them."""
    with tempfile.TemporaryDirectory(prefix="timm-") as output:
        fixed = ["--device", "cpu", "--model", case.arch, "--num-classes", "2", "--batch-size", str(case.batch)]
        once = ["--epochs", "1", "--log-interval", "1", "--output", output]
        said = run([sys.executable, str(script()), "--data-dir", str(folder), *fixed, *once, *FLAGS[name]])
    return [float(found) for found in _STEP.findall(said)][WARM:]


def by_ours(name: str, case: Case) -> list[float]:
    """Return the wall seconds of each step of the method."""
    command = [sys.executable, "-m", "tests.bench.benchmark_beside", case.arch, str(case.batch), str(case.steps), name.split()[1]]
    return json.loads(run(command).splitlines()[-1])


def run(command: list[str]) -> str:
    """Run one contestant with all cores. Raises RuntimeError with what it said when it failed."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(CORES))
    done = subprocess.run(command, cwd=HERE.parents[1], env={**os.environ, **threads}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[1:3]}: {done.stderr[-2000:]}")
    return done.stdout + done.stderr


def rows_of(case: Case, times: Mapping[str, list[float]], *, native: bool) -> list[Row]:
    """Return images a second of ours and of timm (medians)."""
    middle = {name: statistics.median(steps) for name, steps in times.items()}
    rows: list[Row] = []
    for mine, theirs, aim in (("ours bf16", "timm default", 2.2), ("ours bf16", "timm best", 1.0), ("ours fp32", "timm default", 0.0)):
        aimed = f"; aim {aim:g}" if aim and (native or aim < 2) else "; no aim, this CPU has no bfloat16" if aim else ""
        rows.append(
            Row(
                what=f"{case.arch}, 224 px, batch {case.batch}",
                ours=f"{case.batch / middle[mine]:.1f} images a second ({mine})",
                beside=f"{case.batch / middle[theirs]:.1f} images a second ({theirs})",
                against=f"{middle[theirs] / middle[mine]:.2f} times the step rate{aimed}",
                note=f"{middle[mine]:.2f} s a step; median of {len(times[mine])} and {len(times[theirs])}",
            )
        )
    return rows


def gain_of_bfloat16() -> float:
    """Return how many times faster this machine multiplies the matrices of a ViT-S in bfloat16 than in float32, all cores."""
    seconds: dict[torch.dtype, float] = {}
    for dtype in (torch.float32, torch.bfloat16):
        tokens, weight = torch.ones(16 * 197, 384, dtype=dtype), torch.ones(1536, 384, dtype=dtype)
        times: list[float] = []
        for _ in range(30):
            started = time.perf_counter()
            torch.nn.functional.linear(tokens, weight)
            times.append(time.perf_counter() - started)
        seconds[dtype] = statistics.median(times)
    return seconds[torch.float32] / seconds[torch.bfloat16]


def measure() -> list[Row]:
    """Return all of it."""
    found: list[Row] = []
    which = hashlib.sha256(script().read_bytes()).hexdigest()[:12]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as files:
        folder = Path(files)
        each = write_folder(folder, max(case.batch * case.steps for case in CASES))
        for case in CASES:
            times: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
            for _ in range(TURNS):
                for name in CONTESTANTS:
                    times[name] += by_ours(name, case) if name.startswith("ours") else by_timm(name, case, folder)
            found += rows_of(case, times, native=has_bfloat16())
    torch.set_num_threads(CORES)
    gain = f"{gain_of_bfloat16():.2f} times"
    found.append(Row(what="a matrix product of a ViT-S, bfloat16 beside float32", ours=gain, note=f"{CORES} threads, median of 30"))
    preparing = f"{1 / each:.0f} images a second"
    note = f"one thread; paid once, in every epoch by timm; {CORES} cores, train.py of sha256 {which}"
    return [*found, Row(what=f"decoding a PNG of {PNG_PX} px and shrinking it to 224", ours=preparing, note=note)]
