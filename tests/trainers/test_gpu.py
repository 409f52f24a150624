"""On a CUDA GPU the methods are the ones that run on the CPU: the same numbers up to rounding, exact resume, and memory that runs out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.jobs.study import WHOLE, lay, said
from tests.trainers.made_data import made_access
from tests.trainers.made_host import MemoryHost
from tests.trainers.test_loop_processes import SERVER
from tests.trainers.toy import CPU, FolderHost
from trainers.api import Setup
from trainers.classification import config as classification_config
from trainers.classification import train as classification
from trainers.loop import fit, prepare
from trainers.moco_cxr import config as moco_config
from trainers.moco_cxr import train as moco
from trainers.parts.metrics import measure
from trainers.processes import Group, joined

pytestmark = pytest.mark.needs("gpu")
GPU = torch.device("cuda")
MOCO = moco_config.Config(
    arch="slim",
    px=64,
    epochs=2,
    batch_size=32,
    queue_size=64,
    bn_images=8,
    optimizer="sgd",
    lr=0.01,
    weight_decay=1e-4,
    schedule="cosine",
    momentum=0.9,
    augment="cxr_plus",
    collapse_guard=False,
)
CLASSIFICATION = classification_config.Config(arch="slim", px=32, epochs=3, batch_size=16, lr=2e-3, augment="cxr_plus")
METHODS: dict[str, tuple[Any, Any]] = {
    "moco_cxr": (moco, MOCO),
    "moco_cxr in bf16": (moco, dataclasses.replace(MOCO, precision="bf16")),
    "classification": (classification, CLASSIFICATION),
    "classification in bf16": (classification, dataclasses.replace(CLASSIFICATION, precision="bf16")),
    "frozen, by gradient steps": (classification, dataclasses.replace(CLASSIFICATION, freeze="backbone", solver="sgd")),
    "frozen, solved": (classification, dataclasses.replace(CLASSIFICATION, freeze="backbone")),
}
#: How far sums in another order may move a first loss, and a weight (of the largest).
ROUNDING = {"fp32": 1e-4, "bf16": 0.02}
GAP = 5e-3


def run(
    method: Any, config: Any, folder: Path, device: torch.device, stop_after: int | None = None
) -> tuple[MemoryHost, dict[str, Tensor]]:
    """Train on a device and return what was logged, and the last kept weights."""
    folder.mkdir(exist_ok=True)
    host = MemoryHost(folder, stop_after)
    prepare(3, 1, device)
    data = made_access(n=112, px=config.px, sizes=(64, 32))
    built = method.build(Setup(config=config, seed=3, data=data, device=device))
    policies = data.policies
    fit(built, config, host, device=device, measure=lambda scores: measure(scores, policies=policies), prefetch=device.type == "cuda")
    return host, load_file(max(folder.glob("*.safetensors"))) if host.digests else {}


@pytest.mark.parametrize("name", METHODS)
def test_a_gpu_gives_the_cpus_losses_and_weights_up_to_rounding(tmp_path: Path, name: str) -> None:
    method, config = METHODS[name]
    here, weights = run(method, config, tmp_path / "gpu", GPU)
    there, theirs = run(method, config, tmp_path / "cpu", CPU)
    rounding = ROUNDING[config.precision]
    if losses := there.values("train/loss"):
        assert here.values("train/loss")[0] == pytest.approx(losses[0], rel=rounding)
        assert np.mean(here.values("train/loss")) == pytest.approx(np.mean(losses), rel=10 * rounding)
    assert weights.keys() == theirs.keys()
    # Adam divides by the size of a gradient: where that is rounding in bfloat16, weights go their own ways.
    if config.precision == "fp32":
        scale = max(float(value.abs().max()) for value in theirs.values())
        assert max(float((weights[key].float() - value.float()).abs().max()) for key, value in theirs.items()) / scale < GAP


@pytest.mark.parametrize("name", METHODS)
def test_a_gpu_gives_the_same_bytes_twice(tmp_path: Path, name: str) -> None:
    method, config = METHODS[name]
    first, _ = run(method, config, tmp_path / "a", GPU)
    second, _ = run(method, config, tmp_path / "b", GPU)
    assert first.digests == second.digests
    assert first.logged == second.logged


@pytest.mark.parametrize("name", [name for name in METHODS if name != "frozen, solved"])
def test_a_run_that_was_stopped_on_a_gpu_goes_on_to_the_same_bytes(tmp_path: Path, name: str) -> None:
    method, config = METHODS[name]
    whole, _ = run(method, config, tmp_path / "whole", GPU)
    run(method, config, tmp_path / "cut", GPU, stop_after=3)
    assert list((tmp_path / "cut").glob("state-*.pt"))
    resumed, _ = run(method, config, tmp_path / "cut", GPU)
    last = max(whole.digests)
    assert resumed.digests[last] == whole.digests[last]


@pytest.fixture
def _whole_memory() -> Iterator[None]:
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


def _fitted(folder: Path, config: Any) -> FolderHost:
    prepare(3, 1, GPU)
    torch.cuda.empty_cache()
    data = made_access(n=160, px=config.px, sizes=(128, 16))
    built = classification.build(Setup(config=config, seed=3, data=data, device=GPU))
    host = FolderHost(folder)
    fit(built, config, host, device=GPU, measure=lambda scores: measure(scores, policies=data.policies))
    return host


@pytest.mark.usefixtures("_whole_memory")
def test_a_real_out_of_memory_halves_the_passes_of_the_same_experiment(tmp_path: Path) -> None:
    config = dataclasses.replace(CLASSIFICATION, arch="resnet18", px=128, epochs=1, batch_size=128, bn_images=16)
    small = dataclasses.replace(config, micro_batch=32)
    peaks: list[int] = []
    for name, each in (("small", small), ("whole", config)):
        torch.cuda.reset_peak_memory_stats()
        host = _fitted(tmp_path / name, each)
        peaks.append(torch.cuda.max_memory_reserved())
        if name == "small":
            expected = host.losses()
    assert peaks[0] < 0.5 * peaks[1]  # Otherwise there is no room between what fits and what does not.
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((peaks[0] * 1.15) / total)
    host = _fitted(tmp_path / "cut", config)
    assert host.store.kept()[-1]["info"]["micro_batch"] == 32
    assert host.losses() == expected


def test_a_group_over_nccl_is_the_experiment_of_one_process(tmp_path: Path) -> None:
    alone, _ = run(moco, MOCO, tmp_path / "alone", GPU)
    ports: list[int | None] = []
    with joined(Group(rank=0, count=1, local_rank=0, address="127.0.0.1", announce=ports.append), 0, GPU):
        assert torch.distributed.get_backend() == "nccl"
        grouped, _ = run(moco, MOCO, tmp_path / "grouped", GPU)
    assert grouped.digests == alone.digests
    assert ports[0]


def _member(rank: int, folder: Path, store: str) -> None:
    """Be one of two processes, each with a GPU of its own."""
    device = torch.device("cuda", rank)
    torch.cuda.set_device(device)
    torch.distributed.init_process_group("nccl", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        run(moco, MOCO, folder / f"rank{rank}", device)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.needs("two_gpus")
def test_two_processes_over_nccl_give_the_weights_of_one(tmp_path: Path) -> None:
    _, alone = run(moco, MOCO, tmp_path / "alone", GPU)
    members = [SERVER.Process(target=_member, args=(rank, tmp_path, str(tmp_path / "meeting"))) for rank in range(2)]
    for member in members:
        member.start()
    for member in members:
        member.join(300)
        assert member.exitcode == 0
    assert not list((tmp_path / "rank1").glob("*.safetensors"))  # The first process alone writes.
    together = load_file(max((tmp_path / "rank0").glob("*.safetensors")))
    scale = max(float(value.abs().max()) for value in alone.values())
    assert max(float((together[key] - value).abs().max()) for key, value in alone.items()) / scale < GAP


def test_every_kind_of_job_runs_on_a_gpu_through_the_whole_seam(tmp_path: Path) -> None:
    sweep = WHOLE.replace("    pick:", "    resources: {gpus: 1}\n    pick:").replace("    tune:", "    resources: {gpus: 1}\n    tune:")
    study = lay(tmp_path, sweep)
    from jobs import main
    from jobs.spec import Stage

    for job in study.plan.jobs:
        assert main.run(study.paths(job).job) == main.EXIT_DONE, said(study.paths(job))
    trained = study.jobs(Stage.TRAIN)
    assert all(job.resources.gpus == 1 for job in trained)
    assert all(np.isfinite(value) for job in study.jobs(Stage.EVALUATE) for value in study.result(job)["metrics"].values())
