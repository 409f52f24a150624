"""UniChest's source-contrastive loss beside a double loop, and its networks side by side: CPU time of one thread.

The loop is over pairs of images, as the public code has it, every term a tensor operation; loss and gradient are timed. Experts are asked
in one batched call, which is for GPUs; beside it are the same networks asked one after the other.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.bench.rows import Row
from trainers.unichest.losses import source_contrast
from trainers.unichest.queries import QueryNetworks

BATCH, SOURCES, WIDTH = 32, 4, 32
EXPERTS, IMAGES, TOKENS, PROMPTS = 3, 8, 49, 60
SHAPE = {"width": 256, "heads": 4, "hidden": 512, "layers": 4, "dropout": 0.0}
ROUNDS = 7


def measure() -> list[Row]:
    """Return one row for the loss and one for the experts."""
    torch.set_num_threads(1)
    return [_of_the_loss(), _of_the_experts()]


def _of_the_loss() -> Row:
    generator = torch.Generator().manual_seed(0)
    gates = torch.randn((BATCH, WIDTH), generator=generator, requires_grad=True)
    sources = torch.randint(0, SOURCES, (BATCH,), generator=generator)

    def ours() -> Tensor:
        gates.grad = None
        loss = source_contrast(gates, sources, form="pairs")
        loss.backward()
        return loss.detach()

    def loop() -> Tensor:
        gates.grad = None
        loss = by_loop(gates, sources)
        loss.backward()
        return loss.detach()

    times, values = _timed({"ours": ours, "loop": loop})
    return Row(
        what=f"source-contrastive loss and its gradient, {BATCH} images of {SOURCES} sources",
        ours=f"{1000 * times['ours']:.2f} ms",
        beside=f"double loop: {1000 * times['loop']:.1f} ms",
        against=f"{times['loop'] / times['ours']:.0f} times",
        note=f"the two differ by {abs(float(values['ours'] - values['loop'])):.1e}",
    )


def _of_the_experts() -> Row:
    generator = torch.Generator().manual_seed(1)
    prompts = torch.randn((PROMPTS, SHAPE["width"]), generator=generator)  # type: ignore[arg-type]
    memory = torch.randn((IMAGES, TOKENS, SHAPE["width"]), generator=generator)  # type: ignore[arg-type]
    together = QueryNetworks(EXPERTS, **SHAPE, seed=2).eval()  # type: ignore[arg-type]
    apart = [_alone(together, index) for index in range(EXPERTS)]
    norm = nn.LayerNorm(int(SHAPE["width"]))

    def ask(network: QueryNetworks) -> Tensor:
        return network(prompts, memory, norm, local=1.0, overall=0.4)

    with torch.no_grad():
        times, values = _timed({"together": lambda: ask(together), "apart": lambda: torch.cat([ask(one) for one in apart])})
    return Row(
        what=f"{EXPERTS} experts, {IMAGES} images of {TOKENS} tokens, {PROMPTS} prompts, {SHAPE['layers']} layers of {SHAPE['width']}",
        ours=f"one call: {1000 * times['together']:.0f} ms",
        beside=f"{EXPERTS} calls: {1000 * times['apart']:.0f} ms",
        against=f"{times['apart'] / times['together']:.2f} times",
        note=f"the two differ by {float((values['together'] - values['apart']).abs().max()):.1e}; not measured on a GPU",
    )


def _alone(networks: QueryNetworks, index: int) -> QueryNetworks:
    """Return one of several networks as a network of its own."""
    one = QueryNetworks(1, **SHAPE, seed=0).eval()  # type: ignore[arg-type]
    one.load_state_dict({name: value[index : index + 1] for name, value in networks.state_dict().items()})
    return one


def by_loop(gates: Tensor, sources: Tensor) -> Tensor:
    """Return the mean over ordered pairs of one source of -log of the pair's share of all but the image itself."""
    h = functional.normalize(gates, dim=1)
    terms: list[Tensor] = []
    for i in range(len(h)):
        total = torch.stack([(h[i] @ h[m]).exp() for m in range(len(h)) if m != i]).sum()
        terms += [-((h[i] @ h[j]).exp() / total).log() for j in range(len(h)) if j != i and sources[j] == sources[i]]
    return torch.stack(terms).mean()


def _timed(contestants: Mapping[str, Callable[[], Any]]) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the median CPU seconds of each, taken in turns, and what each returned."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    values: dict[str, Any] = {}
    for _ in range(ROUNDS):
        for name, run in contestants.items():
            start = time.process_time()
            values[name] = run()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(taken) for name, taken in times.items()}, values
