"""Conquer, then divide: findings of many sources, asked by their names.

An image becomes tokens, a finding a vector of its name by a frozen text encoder, and a query network answers whether the one is in the
other. Conquer learns one query network on all sources; divide adds experts, of which a gate gives each image, and so each source, its own
mixture. What is said of an image is learnt too: its text is asked the same questions, and images and their texts lie near to each other.
B images, C prompts, d features.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather

from trainers.api import Scores, Setup
from trainers.data.access import ImageStore, Rows
from trainers.data.cuts import Cut, cut
from trainers.data.streams import key
from trainers.devices import Drawn, made, place
from trainers.parts import backbones, schedules
from trainers.pictures import shown
from trainers.precision import autocast
from trainers.processes import Processes
from trainers.unichest import gates, losses, maps, rates
from trainers.unichest.config import OPEN_LABELS as OPEN_LABELS
from trainers.unichest.config import Config
from trainers.unichest.fourier import mix_amplitude
from trainers.unichest.material import Material
from trainers.unichest.network import Answers, Network
from trainers.unichest.prompts import Prompts
from trainers.unichest.starting import follow, read_released
from trainers.unichest.text_encoder import text_encoder

_LOG = logging.getLogger(__name__)
_BACKBONE, _QUERIES = 1, 2


def build(setup: Setup) -> UniChest | Released:
    """Build a stage. Raises DataError or Error for a source that cannot be learnt from, WeightsError when its start cannot be had."""
    return Released(setup) if setup.config.stage == "released" and not setup.predict_only else UniChest(setup)


class Asking:
    """What both stages and a released model share: a network, prompts, and predictions by them."""

    by_source = True

    def __init__(self, setup: Setup) -> None:
        config: Config = setup.config
        self.config, self.setup = config, setup
        self.prompts = Prompts(ask=config.ask, wording=config.prompts)
        self.encoder = text_encoder(setup)
        self.module = Network(config, seed=key(setup.seed, _QUERIES), backbone_seed=key(setup.seed, _BACKBONE))
        self._asked: dict[tuple[str, tuple[str, ...]], Tensor] = {}
        self.captions: dict[str, str] = {}
        #: What is predicted, any label: those of the card that is evaluated.
        self.labels = setup.data.label_names if setup.predict_only else setup.labels
        opened = (setup.data,) if setup.predict_only else setup.sources
        self._stores: dict[str, ImageStore] = {access.card: access.images(config.px) for access in opened}
        place(self.module, setup.device)

    def vectors(self, card: str, labels: tuple[str, ...]) -> Tensor:
        """Return the prompts of a card's labels, (C, d), encoded once: the text encoder is frozen."""
        if (card, labels) not in self._asked:
            self._asked[card, labels] = self.encoder.encode([self.prompts.text(label, card) for label in labels])
        return self._asked[card, labels].to(next(self.module.parameters()).device)

    def predict(self, rows: Rows) -> Scores:
        """Predict every label of the rows' card in eval mode, in their order."""
        return self._answered(rows)[0]

    @torch.no_grad()
    def _answered(self, rows: Rows) -> tuple[Scores, NDArray[np.float32]]:
        """Return scores of rows, and the gate of each, (n, E)."""
        labels = rows.label_names
        network, prompts = self.module, self.vectors(rows.card, labels)
        training, device = network.training, prompts.device
        found, weights = np.empty((len(rows), len(labels)), np.float32), np.empty((len(rows), self.config.experts), np.float32)
        network.eval()
        for first in range(0, len(rows), self.config.batch_size):
            here = slice(first, first + self.config.batch_size)
            with autocast(self.config.precision, device):
                tokens = network.tokens(network.pixels(self._views(rows.take(np.arange(len(rows))[here])).to(device)))
                answers = network.answer(tokens, prompts, with_experts=self.config.bias_ratio > 0)
            found[here], weights[here] = answers.logits.float().cpu().numpy(), answers.gate.float().cpu().numpy()
        network.train(training)
        return Scores(rows=rows, logits=found, labels=labels), weights

    def _views(self, rows: Rows) -> Tensor:
        how = Cut(px=self.config.px, squashed=self.config.aspect == "squashed")
        return torch.from_numpy(cut(self._stores[rows.card], rows.position, how)[0])

    def asked(self) -> dict[str, list[str]]:
        """Return by label of the card that is evaluated which sources have its concept; of none, it is a prompt that nobody learnt."""
        known = {card: {self.prompts.concept(label) for label in source.labels} for card, source in self.setup.learnt_from.items()}
        return {label: [card for card, names in known.items() if self.prompts.concept(label) in names] for label in self.labels}

    def facts(self) -> dict[str, Any]:
        """Return what the trained prompts say, by label."""
        concepts = self.prompts.concepts([source.labels for source in self.setup.learnt_from.values()])
        return {"prompts": {concept: self.prompts.text(concept) for concept in concepts}}

    # --- pictures ------------------------------------------------------------------------------------------------------------------------

    def overlays(self, rows: Rows) -> dict[str, NDArray[np.uint8]]:
        """Return where the main network looks on each of some images: for its positive labels first, then for the most probable ones."""
        labels = rows.label_names
        scores = self.predict(rows).logits
        views, prompts = self._views(rows), self.vectors(rows.card, labels)
        looks = self.module.looks(self.module.pixels(views.to(prompts.device)), prompts).float().cpu().numpy()
        found: dict[str, NDArray[np.uint8]] = {}
        for row in range(len(rows)):
            order = sorted(range(len(labels)), key=lambda column: (rows.labels[row, column] != 1, -scores[row, column]))[: maps.SHOWN]
            titles = [f"{labels[column]} {_sigmoid(float(scores[row, column])):.2f}" for column in order]
            name = f"attention-{row + 1}"
            found[name] = maps.overlay(views[row, 0].numpy(), looks[row, order], titles)
            self.captions[name] = (
                f"{rows.images[row]}: where the main query network looks in its last layer, mean over heads, for "
                f"{', '.join(self.prompts.text(labels[column], rows.card) for column in order)}; the number is the model's probability"
            )
        return found


class Released(Asking):
    """A published checkpoint, read and validated, nothing learnt."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        report = read_released(self.module, setup)
        _LOG.info("%s", report)

    def solve(self) -> dict[str, float]:
        """Learn nothing."""
        return {}

    def validate(self) -> dict[str, Scores]:
        """Predict the validation split of every source."""
        return {access.card: self.predict(access.rows("val")) for access in self.setup.sources}


class UniChest(Asking):
    """Conquer or divide."""

    #: The contrastive losses of a batch are not the means of those of its parts.
    accumulates = False

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if setup.predict_only:
            return
        self.material = Material(setup, self.prompts)
        self._start()
        self.steps_per_epoch = self.material.steps
        concepts = self.material.concepts
        self._texts = [self.prompts.text(concept) for concept in concepts]
        self._noisy = self.config.text_mode == "as_published"
        #: Of every text that an image has, and of every prompt, its vector; encoded once, in one order, so that a run goes on bit for bit.
        self._text_vectors = torch.empty(0) if self._noisy else self.encoder.encode(self.material.texts).cpu()
        self._prompt_vectors = self.encoder.encode(self._texts)
        self._waiting: dict[str, Scores] | None = None
        self._gates: dict[str, NDArray[np.float32]] = {}

    def facts(self) -> dict[str, Any]:
        """Return what the trained prompts say, and by source of how many training images a report is the text, where any is."""
        told = self.material.told
        return {**super().facts(), **({"reports": told} if any(told.values()) else {})}

    def _start(self) -> None:
        """Give the network its start: in divide a conquer parent's, or a published checkpoint's; else the backbone's."""
        config, setup = self.config, self.setup
        if config.stage == "divide":
            sentence = follow(self.module, setup) if setup.parents else read_released(self.module, setup)
            _LOG.info("%s", sentence)
            return
        report = backbones.start(self.module.backbone, setup)
        if report is not None:
            _LOG.info("%s", report.sentence())

    # --- training ------------------------------------------------------------------------------------------------------------------------

    def optimizer(self) -> torch.optim.Optimizer:
        """Make AdamW over what is not frozen; norms and biases do not decay."""
        config = self.config
        decaying: list[nn.Parameter] = []
        staying: list[nn.Parameter] = []
        for name, value in self.module.named_parameters():
            # Of query networks that lie side by side, a norm is a matrix.
            flat = value.ndim <= 1 or "norm" in name or name.endswith("bias")
            if value.requires_grad:
                (staying if flat else decaying).append(value)
        groups = [{"params": decaying, "weight_decay": config.weight_decay}, {"params": staying, "weight_decay": 0.0}]
        return torch.optim.AdamW([group for group in groups if group["params"]], lr=config.lr)

    def learning_rate_factor(self, step: int) -> float:
        """Return the schedule's factor, by step or as released."""
        config, total = self.config, self.config.epochs * self.steps_per_epoch
        if config.schedule == "released":
            return rates.released(step, self.steps_per_epoch, config.epochs, lr=config.lr, min_lr=config.min_lr)
        rising = round(config.warmup * total)
        return schedules.cosine(step, total, warmup_steps=rising) if config.schedule == "cosine" else schedules.warmup(step, rising)

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """Yield whole batches of all sources mixed, in an order that is a function of (seed, epoch)."""
        yield from map(made, self._recipes(epoch, start, shared=False))

    def recipes(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the same batches, their views not made yet; whom an image is mixed with may be another process's."""
        yield from self._recipes(epoch, start, shared=True)

    def _recipes(self, epoch: int, start: int, *, shared: bool) -> Iterator[dict[str, Any]]:
        material = self.material
        for step, images in material.order(epoch, start):
            targets = torch.from_numpy(material.targets[images])
            text = material.text_of[images]
            batch: dict[str, Any] = {
                "views": Drawn(len(images), partial(material.views, images, epoch)),
                "targets": targets,
                "sources": torch.from_numpy(material.source[images]),
                "text": torch.from_numpy(text) if self._noisy else self._text_vectors[torch.from_numpy(text)],
                # Of the whole batch, also where a process has a part of it.
                "known": (~targets.isnan()).sum(),
                "images": torch.tensor(len(images)),
            }
            if (mixed := material.mix(epoch, step)) is not None:
                partner, share = mixed
                batch["share"] = torch.from_numpy(share)
                if shared:
                    batch["partners"] = Drawn(len(images), partial(material.views, images[partner], epoch))
                else:
                    batch["partner"] = torch.from_numpy(partner)
            yield batch

    def loss(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return L_CE + clip_ratio L_CLIP + moe_ratio L_SCL, and what it consists of."""
        config, network = self.config, self.module
        tokens = network.tokens(self._pixels(batch))
        text, prompts = self._encoded(batch)
        seen = network.answer(tokens, prompts, with_experts=config.keeps_experts)
        read = network.answer(text[:, None], prompts, with_experts=config.keeps_experts)
        found = {"image": self._classified(seen, batch), "text": self._classified(read, batch)}
        loss = found["image"] + found["text"]
        if config.clip_ratio > 0:
            images, texts = self._everyone(tokens.float().mean(1)), self._everyone(text)
            found["clip"] = losses.contrastive(images, texts, network.contrastive_scale(), normalised=config.contrast == "learnt")
            loss = loss + config.clip_ratio * found["clip"]
        if config.moe_ratio > 0:
            sources = self._everyone(batch["sources"])
            found["source"] = self._contrasted(seen.gate, sources) + self._contrasted(read.gate, sources)
            loss = loss + config.moe_ratio * found["source"]
        return {"loss": loss, **found}

    def _pixels(self, batch: Mapping[str, Any]) -> Tensor:
        pixels = self.module.pixels(batch["views"])
        if "share" not in batch:
            return pixels
        partners = self.module.pixels(batch["partners"]) if "partners" in batch else pixels[batch["partner"]]
        radius = self.config.fourier_radius if self.config.fourier == "low" else None
        mixed = mix_amplitude(pixels, partners, batch["share"], radius=radius)
        return mixed.contiguous(memory_format=torch.channels_last)

    def _encoded(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Return the text of each image, (B, d), and the prompts, (C, d)."""
        device = batch["sources"].device
        if not self._noisy:
            return batch["text"], self._prompt_vectors.to(device)
        texts = [self.material.texts[index] for index in batch["text"].tolist()]
        return self.encoder.encode(texts, noisy=True).to(device), self.encoder.encode(self._texts, noisy=True).to(device)

    def _classified(self, answers: Answers, batch: Mapping[str, Any]) -> Tensor:
        """Return the asymmetric loss of a batch, of which a process may have a part: parts, weighted by their images, make the whole."""
        config, targets = self.config, batch["targets"]
        each = losses.asymmetric(
            answers.probabilities, targets, gamma_negative=config.gamma_negative, gamma_positive=config.gamma_positive, clip=config.clip
        )
        whole = each.sum() * (batch["images"] / len(targets))
        return whole if config.reduction == "sum" else whole * targets.shape[1] / batch["known"].clamp(min=1)

    def _contrasted(self, gate: Tensor, sources: Tensor) -> Tensor:
        config = self.config
        projected = self._everyone(self.module.project(gate))
        return losses.source_contrast(
            projected, sources, temperature=config.temperature, form=config.source_loss, similarity=config.source_similarity
        )

    def _everyone(self, values: Tensor) -> Tensor:
        """Return the rows of all processes, rank 0's first, with their gradients, where these are gathered."""
        if not self.config.gather or Processes().count == 1:
            return values
        return _gathered(values)

    def after_step(self, step: int) -> None:
        """Do nothing: there is no slow copy of anything."""

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Return how well the gate tells sources apart on validation images, where it has a say and validation is due."""
        config = self.config
        self._waiting, self._gates = None, {}
        if config.bias_ratio == 0 or ((epoch + 1) % config.save_every_epochs and epoch + 1 != config.epochs):
            return {}
        self._look()
        found = gates.separation(self._gates)
        return {} if found is None else {"val/gate_separation": found}

    def _look(self) -> dict[str, Scores]:
        scores: dict[str, Scores] = {}
        for access in self.setup.sources:
            scores[access.card], self._gates[access.card] = self._answered(access.rows("val"))
        self._waiting = scores
        return scores

    def validate(self) -> dict[str, Scores]:
        """Predict the validation split of every source by its own labels."""
        scores = self._waiting or self._look()
        self._waiting = None
        return scores

    def pictures(self, epoch: int) -> dict[str, NDArray[np.uint8]]:
        """Return attention maps of a few validation images of the first source, and the gate's weights by source."""
        found = self.overlays(shown(self.setup.data.rows("val")))
        if self.config.bias_ratio > 0:
            known = self._gates or {access.card: self._answered(access.rows("val"))[1] for access in self.setup.sources}
            found["gate"] = gates.figure(known)
            self.captions["gate"] = "The mean weight that the gate gives each expert, by source, on validation images; rows add up to 1"
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: all there is to know is in the weights and the step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore nothing."""


def _gathered(values: Tensor) -> Tensor:
    """Return the rows of all processes with gradients; shares of a batch may differ in length."""
    from torch import distributed

    mine = torch.tensor([len(values)], device=values.device)
    counts = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(counts, mine)
    lengths = [int(count) for count in counts]
    padding = values.new_zeros((max(lengths) - len(values), *values.shape[1:]))
    padded = torch.cat([values, padding])
    if not values.is_floating_point():
        everyone = [torch.empty_like(padded) for _ in lengths]
        distributed.all_gather(everyone, padded)
    else:
        everyone = list(all_gather(padded))
    return torch.cat([rows[:length] for rows, length in zip(everyone, lengths, strict=True)])


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
