"""Accruing and reusing knowledge from many annotated sources.

A student learns one source after another, each through a head of its own. A teacher, its slow copy, accrues what it learns, and what the
teacher makes of an image is what the student has to stay consistent with while it learns the next. B images, E features of an embedding,
L labels of all sources.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from trainers.api import Scores, Setup
from trainers.ark.config import Config
from trainers.ark.heads import Outputs
from trainers.ark.material import Material, Step, learnt
from trainers.ark.network import Network, head, projector
from trainers.ark.views import Look
from trainers.data.access import Access, ImageStore, Rows
from trainers.data.cuts import Cut, cut
from trainers.data.sides import side_of
from trainers.data.streams import key
from trainers.devices import Drawn, made, place
from trainers.parts import backbones, ema, optimizers, schedules
from trainers.parts.batchnorm import live_batchnorms
from trainers.parts.inputs import Normalizer
from trainers.parts.metrics import mean_probability
from trainers.precision import autocast
from trainers.sources import number_of

_LOG = logging.getLogger(__name__)
_BACKBONE, _PROJECTOR, _HEAD = 1, 2, 3
#: Of networks that start on their own.
_STUDENT, _TEACHER = 0, 1


def build(setup: Setup) -> Ark:
    """Build Ark. Raises DataError or Error for a source that cannot be learnt from, WeightsError when its start cannot be had."""
    return Ark(setup)


def coupled(step: int, total: int, momentum: float, consistency: float) -> tuple[float, float]:
    """Return the teacher's momentum m_k, which rises to 1, and the weight of the consistency loss c_k, which rises from 0, at k of K.

    Both along half a cosine: with m_0 = .9 and c_K = .5, c_k is 5 (m_k - .9) (Ark, `trainer.py`; Ark+ computes it so).
    """
    return schedules.rising_momentum(step, total, momentum, 1.0), schedules.rising_momentum(step, total, 0.0, consistency)


def supervised(logits: Tensor, targets: Tensor, weights: Tensor, *, exclusive: bool) -> Tensor:
    """Return the weighted sum of the loss of each entry, over the number of images, (B, C) each.

    Of labels, the binary cross-entropy of every entry; of classes that exclude each other, the cross-entropy of every image.
    """
    logits = logits.float()
    if exclusive:
        each = -(targets * functional.log_softmax(logits, dim=1)).sum(1) * weights.sum(1)
    else:
        each = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none") * weights
    return each.sum() / len(logits)


class Ark:
    """Student and teacher over several sources."""

    by_source = True

    def __init__(self, setup: Setup) -> None:
        config: Config = setup.config
        self.config, self.setup = config, setup
        self.outputs = Outputs(learnt(setup), config, choice=setup.heads)
        if setup.predict_only:
            self.module = self._network(_STUDENT)
            self.labels = self.outputs.predicted(setup.data.card, setup.data.label_names)
            self._stores: dict[str, ImageStore] = {setup.data.card: setup.data.images(side_of(config.px, config.crop_pct))}
            place(self.module, setup.device)
            return
        self.material = Material(setup)
        self._stores = {access.card: store for access, store in zip(self.material.accesses, self.material.stores, strict=True)}
        self.module = self._started(_STUDENT)
        self.needs_teacher = config.consistency > 0 or config.export == "teacher"
        self.steps_per_epoch = sum(self.material.steps)
        self._step = 0
        #: What validation last said of the student, over all sources; None before it said anything.
        self._val_loss: float | None = None
        place(self.module, setup.device)

    # --- networks ------------------------------------------------------------------------------------------------------------------------

    def _network(self, whose: int) -> Network:
        config, seed = self.config, self.setup.seed
        backbone = backbones.build(config.arch, config.channels, config.px, drop_path=config.drop_path, seed=key(seed, _BACKBONE, whose))
        features = backbones.width(backbone)
        embedding = features if config.projector == "none" else config.projector_features
        heads = {
            name: head(embedding, len(labels), seed=key(seed, _HEAD, whose, number_of(name))) for name, labels in self.outputs.heads.items()
        }
        project = projector(features, embedding, kind=config.projector, seed=key(seed, _PROJECTOR, whose))
        return Network(backbone, project, heads, Normalizer(config.normalization, config.channels))

    def _started(self, whose: int) -> Network:
        network = self._network(whose)
        report = backbones.start(network.backbone, self.setup)
        if report is not None:
            _LOG.info("%s", report.sentence())
        return network

    def _make_teacher(self) -> Network:
        """Return the teacher on the student's device: its copy, or one with a start of its own, of which only files are shared."""
        if self.config.teacher_start == "copy":
            teacher = ema.slow_copy(self.module)
        else:
            teacher = self._started(_TEACHER).requires_grad_(False)
            place(teacher, next(self.module.parameters()).device)
        assert isinstance(teacher, Network)
        return teacher.eval()

    @property
    def exported(self) -> Network:
        """Return the network that is handed on."""
        return self.module if self.setup.predict_only or self.config.export == "student" else self.teacher

    # --- training ------------------------------------------------------------------------------------------------------------------------

    def optimizer(self) -> torch.optim.Optimizer:
        """Make the optimizer of the student; the teacher comes to life on the same device."""
        config = self.config
        if self.needs_teacher:
            self.teacher = self._make_teacher()
        return optimizers.build(
            self.module.backbone,
            nn.ModuleList([self.module.projector, self.module.heads]),
            name=config.optimizer,
            lr=config.lr,
            weight_decay=config.weight_decay,
            decay_norms=config.decay_norms,
            nesterov=config.nesterov,
            # A head has its first gradient when its source is first passed over.
            fused=False,
        )

    def learning_rate_factor(self, step: int) -> float:
        """Return the schedule's factor: by step, or as released by the validation loss in place of the cycle's number."""
        config, total = self.config, self.config.epochs * self.steps_per_epoch
        rising = round(config.warmup * total)
        if config.schedule == "cosine":
            return schedules.cosine(step, total, warmup_steps=rising)
        if config.schedule == "constant":
            return schedules.warmup(step, rising)
        return schedules.by_epoch(
            self._val_loss or 0.0,
            config.epochs,
            lr=config.lr,
            warmup_epochs=config.warmup_epochs,
            warmup_lr=config.warmup_lr,
            min_lr=config.min_lr,
        )

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """Yield whole batches of both views, one source after another, in an order that is a function of (seed, epoch)."""
        yield from map(made, self.recipes(epoch, start))

    def recipes(self, epoch: int, start: int = 0) -> Iterator[dict[str, Any]]:
        """Yield the same batches, their views not made yet."""
        config = self.config
        student = Look(px=config.px, augment=config.student_view)
        teacher = Look(px=config.px, augment=config.student_view, teacher=config.teacher_view)
        for step in self.material.cycle(epoch, start):
            targets, weights = self.material.learnt(step, self.outputs.exclusive)
            batch: dict[str, Any] = {
                "student": self._drawn(step, epoch, student),
                "targets": targets,
                "weights": weights,
                "sources": step.sources,
            }
            yield {**batch, "teacher": self._drawn(step, epoch, teacher)} if config.consistency > 0 else batch

    def _drawn(self, step: Step, epoch: int, look: Look) -> Drawn:
        return Drawn(len(step.images), partial(self.material.views, step.images, epoch, look))

    def before_step(self, step: int) -> None:
        """Let the teacher follow what the step before has changed, where it is time for that.

        Not after that step: running statistics of several processes are put together in between.
        """
        epoch, within = divmod(step, self.steps_per_epoch)
        if within and (self.config.ema != "pass" or within in self.material.starts(epoch)):
            self._follow(step)
        self._step = step
        if self.needs_teacher:
            self._set_mode(epoch)

    def _set_mode(self, epoch: int) -> None:
        """Put the teacher into eval mode, but in the first cycle of the release, where it has stochastic depth (never live BatchNorm)."""
        training = self.config.teacher_mode == "as_published" and epoch == 0
        if training != self.teacher.training:
            self.teacher.train(training)
            for norm in list(live_batchnorms(self.teacher)):
                norm.eval()

    def _count(self, step: int) -> tuple[int, int, int]:
        """Return k of the momentum, k of the consistency loss, and K at a step: steps, or passes begun before it.

        As released with `--ema_mode iteration`, the schedules have an entry a step, and the counter moves on by one a pass: the momentum
        adds the steps of the pass at hand to it, the consistency loss nothing.
        """
        config = self.config
        if config.ema == "step":
            return step, step, config.epochs * self.steps_per_epoch
        passes = len(self.material.passes)
        epoch, within = divmod(step, self.steps_per_epoch)
        begun = [start for start in self.material.starts(epoch) if start <= within]
        count = epoch * passes + len(begun) - 1
        if config.ema == "pass":
            return count, count, config.epochs * passes
        return count + within - begun[-1], count, config.epochs * self.steps_per_epoch

    def _coupled(self, step: int) -> tuple[float, float]:
        """Return the teacher's momentum and the weight of the consistency loss at a step."""
        of_momentum, of_weight, total = self._count(step)
        start, end = self.config.momentum, self.config.consistency
        return coupled(of_momentum, total, start, end)[0], coupled(of_weight, total, start, end)[1]

    def _follow(self, step: int) -> None:
        """Move the teacher towards the student as it is before a step, with the momentum of the step or pass that has just ended."""
        if not self.needs_teacher:
            return
        momentum, _ = self._coupled(step - 1)
        ema.update(self.teacher, self.module, momentum)
        ema.update_buffers(self.teacher, self.module, momentum)

    def loss(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return (1 - c) times the loss on labels plus c times the squared distance of the embeddings, and both of them."""
        embedding = self.module.embed(batch["student"])  # B, E
        learnt = embedding.new_zeros(())
        for source in batch["sources"]:
            columns, exclusive = self.material.columns[source], self.outputs.exclusive[source]
            logits = self.outputs.logits(self.module, embedding, source)
            learnt = learnt + supervised(logits, batch["targets"][:, columns], batch["weights"][:, columns], exclusive=exclusive)
        if self.config.consistency == 0:
            return {"loss": learnt, "supervised": learnt}
        with torch.no_grad():
            target = self.teacher.embed(batch["teacher"])
        distance = functional.mse_loss(embedding, target)
        momentum, weight = self._coupled(self._step)
        return {
            "loss": (1 - weight) * learnt + weight * distance,
            "supervised": learnt,
            "consistency": distance,
            "consistency_weight": embedding.new_tensor(weight),
            "teacher_momentum": embedding.new_tensor(momentum),
        }

    def after_step(self, step: int) -> None:
        """Nothing follows a step: the teacher does before the next, or at the end of the cycle."""

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Let the teacher follow the last step of the cycle."""
        self._follow((epoch + 1) * self.steps_per_epoch)
        return {}

    def validated(self, metrics: Mapping[str, float]) -> None:
        """Take note of the student's validation loss, which the released schedule goes by."""
        name = "val/mean_loss" if self.config.export == "student" else "val/student/mean_loss"
        self._val_loss = metrics.get(name, self._val_loss)

    # --- predicting ----------------------------------------------------------------------------------------------------------------------

    def validate(self) -> Mapping[str, Scores]:
        """Predict the validation split of every source by its own head, with the network that is handed on and then with the other."""
        networks = {"": self.exported}
        if self.config.validated == "both" and self.needs_teacher:
            other = "student" if self.config.export == "teacher" else "teacher"
            networks[f"/{other}"] = self.module if other == "student" else self.teacher
        return {
            f"{access.card}{name}": self._scores(network, access.card, access.rows("val"), access.label_names)
            for name, network in networks.items()
            for access in self.material.accesses
        }

    def predict(self, rows: Rows) -> Scores:
        """Predict rows of a card in eval mode, in their order: by its own head, or each label by the heads of all sources that have it."""
        if self.setup.predict_only:
            return self._scores(self.exported, self.setup.data.card, rows, self.labels)
        return self._scores(self.exported, rows.card, rows, self._access(rows.card).label_names)

    @torch.no_grad()
    def embed(self, rows: Rows, of: str) -> NDArray[np.float32]:
        """Return what the network that is handed on makes of one view of each image, its centre: (n, d) before or after its projector."""
        card = self.setup.data.card if self.setup.predict_only else rows.card
        network = self.exported
        make = network.features if of == "backbone" else network.embed
        training, device = network.training, next(network.parameters()).device
        how = Cut(px=self.config.px, squashed=self.config.aspect == "squashed")
        network.eval()
        with autocast(self.config.precision, device):
            parts = [
                make(torch.from_numpy(cut(self._stores[card], rows.position[first : first + self.config.batch_size], how)[0]).to(device))
                for first in range(0, len(rows), self.config.batch_size)
            ]
        network.train(training)
        return torch.cat(parts).float().cpu().numpy()

    def _access(self, card: str) -> Access:
        return next(access for access in self.material.accesses if access.card == card)

    @torch.no_grad()
    def _scores(self, network: Network, card: str, rows: Rows, labels: tuple[str, ...]) -> Scores:
        found = np.empty((len(rows), len(labels)), np.float32)
        config, training, device = self.config, network.training, next(network.parameters()).device
        ten = (config.test_views if self.setup.predict_only else config.val_views) == "ten_crop"
        how = Cut(px=config.px, squashed=config.aspect == "squashed", ten=ten)
        network.eval()
        with autocast(config.precision, device):
            for first in range(0, len(rows), config.batch_size):
                here = rows.position[first : first + config.batch_size]
                passes = cut(self._stores[card], here, how)
                each = [self.outputs.scores(network, network.embed(torch.from_numpy(some).to(device)), card, labels) for some in passes]
                found[first : first + len(here)] = mean_probability(each)
        network.train(training)
        return Scores(rows=rows, logits=found, labels=labels, exclusive=self.outputs.are_classes(card))

    # --- resuming ------------------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the teacher, and what the released schedule goes by."""
        teacher = {"teacher": self.teacher.state_dict()} if self.needs_teacher else {}
        return {**teacher, "val_loss": self._val_loss}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        if self.needs_teacher:
            self.teacher.load_state_dict(state["teacher"])
        self._val_loss = state["val_loss"]

    def facts(self) -> dict[str, Any]:
        """Return which network the checkpoints hold, and whose labels it learnt."""
        return {"exported": self.config.export, "heads": {name: list(labels) for name, labels in self.outputs.heads.items()}}

    def asked(self) -> dict[str, list[str]]:
        """Return by label which sources' heads predict the card that is evaluated: its own, or all that have the label (zero-shot)."""
        return {label: list(self.outputs.asked(self.setup.data.card, label)) for label in self.labels}
