"""bfloat16: the forward pass is in it, probabilities, losses and weights are not, and what is learnt is nearly the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.unichest.made_sources import TINY, run, setup_of
from trainers.precision import autocast
from trainers.unichest import train

SHORT = replace(TINY, epochs=1, dropout=0.0)


def test_a_step_in_bf16_is_that_of_fp32_up_to_its_rounding() -> None:
    losses: dict[str, Any] = {}
    for precision in ("fp32", "bf16"):
        method = train.build(setup_of(replace(SHORT, precision=precision)))
        assert isinstance(method, train.UniChest)
        seen: list[torch.dtype] = []
        hook = method.module.projection["first"].register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output.dtype))
        with autocast(precision, torch.device("cpu")):
            losses[precision] = method.loss(next(iter(method.batches(0))))
        hook.remove()
        assert set(seen) == {torch.bfloat16 if precision == "bf16" else torch.float32}
        losses[precision]["loss"].backward()
        grads = [value.grad for value in method.module.parameters() if value.grad is not None]
        assert grads and all(grad.dtype == torch.float32 and bool(grad.isfinite().all()) for grad in grads)
    assert {value.dtype for value in losses["bf16"].values()} == {torch.float32}
    for name, value in losses["fp32"].items():
        assert losses["bf16"][name].item() == pytest.approx(value.item(), rel=0.03), name
        assert name == "text" or losses["bf16"][name].item() != value.item()


def test_a_run_in_bf16_keeps_weights_in_float32(tmp_path: Path) -> None:
    host, outcome, method = run(setup_of(replace(SHORT, precision="bf16")), tmp_path)
    assert outcome.finished and {value.dtype for value in method.module.parameters()} == {torch.float32}
    assert 0.0 <= outcome.metrics["val/mean_auroc"] <= 1.0 and host.logged
