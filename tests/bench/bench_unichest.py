"""UniChest's source-contrastive loss beside a double loop, and its networks side by side: CPU time of one thread.

The loop is over pairs of images, as the public code has it, every term a tensor operation; loss and gradient are timed. Experts are asked
in one batched call, which is for GPUs; beside it are the same networks asked one after the other. What a step at full size keeps for
its gradient is counted, not timed: bytes of distinct tensors in bfloat16, of two batches, so that what does not grow with them is left out.
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
from trainers.precision import autocast
from trainers.unichest.config import Config
from trainers.unichest.losses import source_contrast
from trainers.unichest.network import Network
from trainers.unichest.queries import QueryNetworks

BATCH, SOURCES, WIDTH = 32, 4, 32
EXPERTS, IMAGES, TOKENS, PROMPTS = 3, 8, 49, 60
SHAPE = {"width": 256, "heads": 4, "hidden": 512, "layers": 4, "dropout": 0.0}
ROUNDS = 7
#: A step as published: ResNet-50 at 512 px, four networks of four layers, 60 prompts, 32 images.
FULL = Config(stage="conquer", conquer_experts="zero_weight", precision="bf16")
BYTES_A_PARAMETER = 16  # weights, gradient and AdamW's two moments in fp32


def measure() -> list[Row]:
    """Return one row each for the loss, the experts and the memory of a step."""
    torch.set_num_threads(1)
    return [_of_the_loss(), _of_the_experts(), _of_memory()]


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


def _of_memory() -> Row:
    network = Network(FULL, seed=0, backbone_seed=0).train()
    few, more = (_kept(network, images) for images in (1, 2))
    step = FULL.batch_size * (more - few) / 2**30
    parameters = sum(value.numel() for value in network.parameters())
    return Row(
        what=f"memory of a step of conquer, {FULL.arch} at {FULL.px} px, 4 networks of {FULL.layers} layers, {PROMPTS} prompts, bf16",
        ours=f"{(more - few) / 2**20:.0f} MiB an image, {step:.1f} GiB for {FULL.batch_size}",
        beside=f"{parameters / 1e6:.0f} million parameters: {BYTES_A_PARAMETER * parameters / 2**30:.1f} GiB with gradient and moments",
        note="counted on a CPU; text is one token more an image",
    )


def _kept(network: Network, images: int) -> int:
    """Return how many bytes of distinct tensors the forward pass of images and of as many texts keeps, parameters left out."""
    kept: dict[int, int] = {}
    own = {value.untyped_storage().data_ptr() for value in network.parameters()}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    generator = torch.Generator().manual_seed(images)
    views = torch.randint(0, 256, (images, 1, FULL.px, FULL.px), generator=generator, dtype=torch.uint8)
    prompts, text = (torch.randn((rows, FULL.width), generator=generator) for rows in (PROMPTS, images))
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value), autocast(FULL.precision, torch.device("cpu")):
        answers = [network.answer(memory, prompts).probabilities for memory in (network.tokens(network.pixels(views)), text[:, None])]
    assert all(answer.requires_grad for answer in answers)
    return sum(kept.values())


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
