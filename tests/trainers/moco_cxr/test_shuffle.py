"""What BatchNorm gives away of a key, with each way of shuffling; and the published way on two real processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed

from tests.trainers.leak import Blank, blind, config_of, found, noise
from tests.trainers.made_host import MemoryHost
from tests.trainers.two_processes import together
from trainers.api import Setup
from trainers.loop import fit, prepare
from trainers.moco_cxr import train
from trainers.moco_cxr.config import Config

CPU = torch.device("cpu")
CHANCE = 1 / 65
ONE_GPU = config_of(key_bn_groups=1)
FOUR_GPUS = config_of(bn_images=4, key_bn_groups=1, shuffle="across")
APART = config_of(bn_images=4, key_bn_groups=1, shuffle="apart")


def test_one_group_gives_every_key_away_and_groups_apart_give_none() -> None:
    """The encoder sees no image: what it finds, it finds by the statistics of a group."""
    assert found(ONE_GPU) > 0.99
    assert found(replace(APART, shuffle="within")) > 0.99
    assert found(APART) < 2 * CHANCE
    # Larger query groups, as many key groups as keep them apart: two of each of two.
    assert found(config_of(bn_images=8, key_bn_groups=4, shuffle="apart")) < 2 * CHANCE


def test_what_was_published_takes_from_the_leak_and_does_not_end_it() -> None:
    """Half a batch has much of the statistics of the whole: sub-batches of the query's own group hide least."""
    leaks = {groups: found(config_of(key_bn_groups=groups)) for groups in (2, 4, 8)}
    assert leaks[2] > 0.95 and leaks[2] > leaks[4] > leaks[8] > 5 * CHANCE
    published = found(FOUR_GPUS)
    assert 5 * CHANCE < published < 0.6 < found(config_of(bn_images=8, key_bn_groups=1, shuffle="across"))


def test_keys_apart_share_a_group_with_one_image_of_each_query_group_at_most() -> None:
    trainer = blind(APART)
    batch = next(iter(trainer.batches(0)))
    trainer.before_step(0)
    trainer.module.seen.clear()
    trainer.key_encoder.seen.clear()
    with torch.no_grad():
        trainer.loss(batch)
    # The toy is grouped by its BatchNorm; which images stand in a group follows from their place.
    queries = [set(map(tuple, part.tolist())) for part in torch.cat(trainer.module.seen).split(4)]
    keys = [set(map(tuple, part.tolist())) for part in trainer.key_encoder.seen]
    assert [len(group) for group in keys] == [4] * 4 and set.union(*keys) == set.union(*queries)
    assert all(len(key_group & query_group) == 1 for key_group in keys for query_group in queries)


def test_an_order_is_a_permutation_of_its_own_step_and_apart_deals_groups_out_in_turn() -> None:
    trainer = blind(APART)
    orders = [trainer._key_order(step).tolist() for step in range(20)]
    assert all(sorted(order) == list(range(16)) for order in orders)
    assert len(set(map(tuple, orders))) == 20 and trainer._key_order(7).tolist() == orders[7]
    for order in orders:
        assert all({image // 4 for image in order[first : first + 4]} == {0, 1, 2, 3} for first in range(0, 16, 4))
    # A last group that is smaller is dealt out like the others, while it lasts.
    uneven = blind(config_of(batch_size=18, bn_images=8, shuffle="apart"))
    assert sorted({image // 8 for image in uneven._key_order(0).tolist()[:3]}) == [0, 1, 2]
    assert blind(ONE_GPU)._key_order(3).tolist() == list(range(16))


@pytest.mark.parametrize("shuffle", ["within", "across", "apart"])
def test_keys_come_back_in_the_order_of_their_queries(shuffle: Any) -> None:
    trainer = blind(replace(APART, shuffle=shuffle, key_bn_groups=2))

    class Self(Blank):
        def forward(self, views: Tensor) -> Tensor:
            return torch.nn.functional.normalize(views.flatten(1).float() - 127.5, dim=1)

    trainer.module, trainer.key_encoder = Self(), Self()  # type: ignore[assignment]
    trainer.before_step(0)
    for step, batch in enumerate(trainer.batches(0)):
        trainer.before_step(step)
        keys = trainer._keys_of(batch["key"], batch["index"])
        assert torch.equal(keys, trainer.module(batch["query"]))
        trainer.loss(batch)
        trainer.after_step(step)
        assert torch.equal(trainer.queue.ordered()[-16:], keys)


def test_without_groups_of_queries_across_is_within_to_the_bit() -> None:
    seen: list[list[float]] = []
    for shuffle in ("within", "across"):
        trainer = train.build(Setup(config=config_of(px=32, shuffle=shuffle), seed=1, data=noise(64, side=32), device=CPU))
        trainer.module.train()
        trainer.optimizer()
        losses: list[float] = []
        for step, batch in enumerate(trainer.batches(0)):
            trainer.before_step(step)
            with torch.no_grad():
                losses.append(float(trainer.loss(batch)["loss"]))
            trainer.after_step(step)
        seen.append([*losses, *trainer.queue.keys.flatten().tolist()])
    assert seen[0] == seen[1]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"shuffle": "across", "micro_batch": 8},
            "shuffle: 'across' takes keys from the whole batch before the first loss, so that it can",
        ),
        ({"shuffle": "apart"}, "shuffle: 'apart' keeps keys apart from the BatchNorm groups of queries: say how large these are"),
    ],
)
def test_what_cannot_be_shuffled_so_is_refused_when_planned(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        config_of(**changes)


def test_a_batch_that_is_shuffled_as_a_whole_is_never_cut() -> None:
    assert not blind(FOUR_GPUS).accumulates and blind(ONE_GPU).accumulates
    assert Config().shuffle == "within"


# --- two processes


def names_of(views: Tensor) -> list[str]:
    """Name images by their first pixels: without augmentation both views of an image are the image."""
    return [bytes(view[0, 0, :8].tolist()).hex() for view in views]


def run(folder: Path, config: Config) -> None:
    """Be one of two processes that pretrain together, and write down which images met in which group, and which key went to which query."""
    prepare(3, 1, CPU)
    trainer = train.build(Setup(config=config, seed=3, data=noise(64, side=32), device=CPU))
    queries: list[list[str]] = []
    groups: list[tuple[list[str], Tensor]] = []
    given: list[tuple[list[str], Tensor]] = []
    optimizer, keys_of, fill = trainer.optimizer, trainer._keys_of, trainer._fill_queue

    def watched_optimizer() -> torch.optim.Optimizer:
        made = optimizer()
        trainer.module.register_forward_pre_hook(lambda _, inputs: queries.append(names_of(inputs[0])))
        trainer.key_encoder.register_forward_hook(lambda _, inputs, keys: groups.append((names_of(inputs[0]), keys.clone())))
        return made

    def watched_fill() -> None:
        fill()
        groups.clear()

    def watched_keys(views: Tensor, index: Tensor) -> Tensor:
        found = keys_of(views, index)
        given.append((queries[-1], found.clone()))
        return found

    trainer.optimizer, trainer._fill_queue, trainer._keys_of = watched_optimizer, watched_fill, watched_keys  # type: ignore[method-assign]
    fit(trainer, config, MemoryHost(folder), device=CPU)
    torch.save({"groups": groups, "given": given}, folder / f"rank{distributed.get_rank()}.pt")


@pytest.mark.parametrize("shuffle", ["across", "apart"])
def test_two_processes_encode_keys_with_other_images_than_their_queries_and_undo_it(tmp_path: Path, shuffle: Any) -> None:
    config = config_of(px=32, epochs=1, bn_images=8, key_bn_groups=1 if shuffle == "across" else 4, shuffle=shuffle, lr=1e-3)
    first, second = together(run, tmp_path, config)
    steps, each = len(first["given"]), len(first["groups"]) // len(first["given"])
    assert steps == 4 and each == config.key_bn_groups
    met = 0
    for step in range(steps):
        mine, theirs = first["given"][step], second["given"][step]
        here, there = set(mine[0]), set(theirs[0])
        assert (len(here), len(there)) == (8, 8) and not here & there
        encoded: dict[str, Tensor] = {}
        for seen in (first, second):
            for names, keys in seen["groups"][step * each : (step + 1) * each]:
                # Statistics of a key's group come from queries of both processes.
                met += bool(here & set(names)) and bool(there & set(names))
                if shuffle == "apart":
                    assert (len(here & set(names)), len(there & set(names))) == (1, 1)
                encoded |= zip(names, keys, strict=True)
        assert encoded.keys() == here | there
        # Each query has the key of its own image, whoever encoded it.
        for names, keys in (mine, theirs):
            assert torch.equal(keys, torch.stack([encoded[name] for name in names]))
    assert met == steps * each * 2
