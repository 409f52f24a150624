"""A backbone and a linear head over a card's labels.

Fine-tuning, and the paper's linear protocol, are a `Trainer`. With the backbone frozen and `solver: lbfgs` nothing random is left:
features are computed once and each label has one solution, so it is a `Solver`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainers.api import Scores, Setup
from trainers.classification.config import Config
from trainers.data import cuts, features, transforms
from trainers.data.access import ImageStore, Rows
from trainers.data.sides import side_of
from trainers.data.streams import key
from trainers.devices import Drawn, made, place
from trainers.errors import Error
from trainers.parts import backbones, heads, labels, logistic, losses, optimizers, schedules
from trainers.parts.inputs import Normalizer
from trainers.parts.logistic_together import fit_together
from trainers.parts.metrics import mean_probability
from trainers.precision import autocast
from trainers.weights import fingerprint

_LOG = logging.getLogger(__name__)
_BACKBONE, _HEAD, _ORDER = 1, 2, 3


def build(setup: Setup) -> FineTuning | LinearProbe | PackedSteps:
    """Build the classifier that the config asks for. Raises Error or WeightsError when its start cannot be had."""
    config: Config = setup.config
    if config.freeze == "backbone" and config.solver == "lbfgs":
        return LinearProbe(setup)
    return PackedSteps(setup) if config.packed else FineTuning(setup)


class Classifier(nn.Module):
    """Views (B, 1, px, px) uint8 to logits (B, L) float32."""

    def __init__(self, backbone: nn.Module, head: nn.Linear, normalize: Normalizer, *, freeze: str) -> None:
        super().__init__()
        self._frozen, self._still = freeze != "nothing", freeze == "backbone"
        self.backbone = backbone.requires_grad_(not self._frozen)
        self.head = head
        self._normalize = normalize

    def train(self, mode: bool = True) -> Classifier:
        """Switch to training, where a frozen backbone stays in eval mode: without that its running statistics would drift."""
        super().train(mode)
        if self._still:
            self.backbone.eval()
        return self

    def features(self, views: Tensor) -> Tensor:
        """Return pooled features, (B, d) float32."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
            return self.backbone(self._normalize(views)).float()

    def forward(self, views: Tensor) -> Tensor:
        features = self.features(views)
        # Logits in float32: in bfloat16 many scores would be tied.
        with torch.autocast(views.device.type, enabled=False):
            return self.head(features)


class _Classification:
    """What both ways share: the network and its start, and prediction."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.config: Config = setup.config
        self.labels = labels.outputs_of(setup)
        config = self.config
        exact = transforms.AUGMENTS[config.augment].exact
        self.store: ImageStore = setup.data.images(side_of(config.px, config.crop_pct), exact=exact)
        #: Views of an image that is predicted: an evaluation alone takes ten.
        ten = config.test_views == "ten_crop" and setup.predict_only
        self._cut = cuts.Cut(px=config.px, squashed=config.aspect == "squashed", ten=ten, exact=exact)
        seed = key(setup.seed, _BACKBONE)
        backbone = backbones.build(config.arch, config.channels, config.px, drop_path=config.drop_path, pool=config.pool, seed=seed)
        if not setup.predict_only:
            self.report = backbones.start(backbone, setup)
            if self.report is not None:
                _LOG.info("%s", self.report.sentence())
        head = heads.linear(backbones.width(backbone), len(self.labels), seed=key(setup.seed, _HEAD))
        self.module = Classifier(backbone, head, Normalizer(config.normalization, config.channels), freeze=config.freeze)
        place(self.module, setup.device)
        #: Rows, and their features, while the backbone cannot change.
        self._known: list[tuple[Rows, NDArray[np.float32]]] = []
        self._before = None if setup.predict_only else self._what_is_frozen()

    def validate(self) -> Scores | None:
        """Predict the validation split, whole and in eval mode."""
        rows = self.setup.data.find("val")
        return None if rows is None else self.predict(rows)

    def predict(self, rows: Rows) -> Scores:
        """Predict the centre square of each image in eval mode, in the order of the rows, dropping none."""
        if self.config.packed:
            return Scores(rows=rows, logits=self._heads(self._packed(rows)), labels=self.labels, exclusive=self._exclusive)
        return Scores(
            rows=rows,
            logits=self._each(self._scored, rows.position, len(self.labels), self._cut),
            labels=self.labels,
            exclusive=self._exclusive,
        )

    @property
    def _exclusive(self) -> bool:
        """Tell whether the labels are classes of which an image has one; a logistic regression each is none the less."""
        return self.config.loss == "cross_entropy"

    def _scored(self, views: Tensor) -> Tensor:
        """Return the logits of labels, (B, L), whose sigmoids are the model's probabilities."""
        return self._as_scores(self.module(views))

    def _as_scores(self, logits: Tensor) -> Tensor:
        return losses.log_odds(logits) if self._exclusive else logits

    def embed(self, rows: Rows, of: str) -> NDArray[np.float32]:
        """Return the pooled features (n, d) of one view of each image, its centre: what the head sees. `of` is `backbone`."""
        if self.config.packed:
            return self._packed(rows)
        return self._each(self.module.features, rows.position, self.module.head.in_features, replace(self._cut, ten=False))

    @torch.no_grad()
    def _each(
        self, function: Callable[[Tensor], Tensor], positions: NDArray[np.int64], columns: int, cut: cuts.Cut, images: int = 0
    ) -> NDArray[np.float32]:
        """Apply a function of views to every image, `images` a pass (the batch size), with the network in eval mode.

        Of several views of an image the function gives logits, and the logit of their mean probability is returned.
        """
        found = np.empty((len(positions), columns), np.float32)
        training, device = self.module.training, self.module.head.weight.device
        width = images or self.config.batch_size
        self.module.eval()
        with autocast(self.config.precision, device):
            for first in range(0, len(positions), width):
                here = positions[first : first + width]
                # As many views a pass with several views an image: the memory of a GPU is what sets their number.
                passes = cuts.cut(self.store, here, cut)
                views = [function(torch.from_numpy(some).to(device)).float().cpu().numpy() for some in passes]
                found[first : first + len(here)] = views[0] if len(views) == 1 else mean_probability(views)
        self.module.train(training)
        return found

    def _what_is_frozen(self) -> str | None:
        """Return the digest of what training must leave alone: the whole backbone, or its parameters without its statistics."""
        if self.config.freeze == "gradients":
            return fingerprint(nn.ParameterList(self.module.backbone.parameters()))
        return fingerprint(self.module.backbone) if self.config.freeze == "backbone" else None

    @torch.no_grad()
    def _heads(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return logits (n, L) of features (n, d)."""
        return self._as_scores(self.module.head(torch.from_numpy(features).to(self.module.head.weight.device))).cpu().numpy()

    def _packed(self, rows: Rows) -> NDArray[np.float32]:
        """Return the features (n, d) of rows, from what all jobs on this network and these images share."""
        known = next((found for other, found in self._known if other is rows), None)
        if known is not None:
            return known
        found = self._shared(rows)
        # Another file of an ensemble may bring another backbone: then nothing is remembered.
        self._known += [] if self.setup.predict_only else [(rows, found)]
        return found

    def _shared(self, rows: Rows) -> NDArray[np.float32]:
        config, device = self.config, self.module.head.weight.device
        exact, width = transforms.AUGMENTS[config.augment].exact, self.module.head.in_features
        # All that can show in a feature, be it in its last bits.
        network = {
            "backbone": self._before or fingerprint(self.module.backbone),
            "arch": config.arch,
            "normalization": config.normalization,
            "precision": config.precision,
            "device": device.type,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        }
        compute = partial(self._each, self.module.features, columns=width, cut=self._cut, images=features.PASS)
        return features.features_of(self.setup.data, rows, config.px, exact=exact, network=network, compute=compute)

    def _check_frozen(self) -> None:
        if self._before is not None and self._what_is_frozen() != self._before:
            raise RuntimeError("the frozen backbone changed during training")


class LinearProbe(_Classification):
    """Logistic regression on features that are computed once."""

    @property
    def _exclusive(self) -> bool:
        return False

    def solve(self) -> dict[str, float]:
        """Fit one penalised logistic regression a label; validation, where there is any, chooses its penalty."""
        train, val = self.setup.data.rows("train"), self.setup.data.find("val")
        fit = fit_together if self.config.packed else logistic.fit
        fits = fit(
            self.embed(train, "backbone"),
            labels.learnt(train, self.setup, self.labels),
            penalties=(self.config.penalty,) if val is None else self.config.penalties,
            validation=None if val is None else (self.embed(val, "backbone"), labels.measured(val, self.setup, self.labels)),
        )
        heads.fill(self.module.head, np.stack([one.weight for one in fits]), np.array([one.bias for one in fits]))
        self._check_frozen()
        return logistic.described(fits, self.labels)


class FineTuning(_Classification):
    """Gradient steps on the cross-entropy, over the whole network or over the head alone."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if setup.predict_only:
            return
        rows = setup.data.rows("train")
        if len(rows) == 0:
            raise Error(f"card '{setup.data.card}' has no training images in this draw: raise its fraction")
        self._rows_learnt, self._positions = rows, rows.position
        self._targets = labels.learnt(rows, setup, self.labels)
        soft = ((self._targets > 0) & (self._targets < 1)).any()
        self._drawn_anew = bool(soft) and self.config.soft_targets == "every_epoch"
        if self._exclusive:
            labels.refuse_other_classes(rows, setup, self.labels)
        #: What validation measured last, for the schedule that follows it.
        self._val_loss: float | None = None
        if self.config.schedule == "cosine_of_val_loss" and setup.data.find("val") is None:
            raise Error(f"config.schedule: card '{setup.data.card}' has no val split whose loss it could follow: set cosine_by_epoch")
        #: Images a step; a draw smaller than a batch is one batch.
        self._batch = min(self.config.batch_size, len(rows))
        self._augment = transforms.AUGMENTS[self.config.augment]
        self.steps_per_epoch = len(rows) // self._batch

    def optimizer(self) -> torch.optim.Optimizer:
        """Make the optimizer over what is not frozen."""
        config = self.config
        return optimizers.build(
            self.module.backbone,
            self.module.head,
            name=config.optimizer,
            lr=config.lr,
            weight_decay=config.weight_decay,
            decay_norms=config.decay_norms,
            nesterov=config.nesterov,
            head_lr_factor=config.head_lr_factor,
            layer_decay=config.layer_decay,
        )

    def learning_rate_factor(self, step: int) -> float:
        """Return the schedule's factor, by step."""
        if self.config.schedule in ("cosine_by_epoch", "cosine_of_val_loss"):
            return self._by_epoch(step // self.steps_per_epoch)
        total = self.config.epochs * self.steps_per_epoch
        rising = round(self.config.warmup * total)
        if self.config.schedule == "cosine":
            return schedules.cosine(step, total, warmup_steps=rising)
        if self.config.schedule == "milestones":
            return schedules.milestones(step // self.steps_per_epoch, self.config.milestones)
        return schedules.warmup(step, rising)

    def _by_epoch(self, epoch: int) -> float:
        config, time = self.config, float(epoch)
        if config.schedule == "cosine_of_val_loss":
            # BenchmarkTransformers' engine.py hands timm's scheduler the loss where the epoch belongs; in the first epoch nothing yet.
            time = 0.0 if self._val_loss is None else self._val_loss
        rise = {"warmup_epochs": config.warmup_epochs, "warmup_lr": config.warmup_lr}
        return schedules.by_epoch(time, config.epochs, lr=config.lr, min_lr=config.min_lr, **rise)

    def validated(self, metrics: Mapping[str, float]) -> None:
        """Remember the validation loss, if the rate follows it."""
        if self.config.schedule == "cosine_of_val_loss":
            self._val_loss = metrics["val/loss"]

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Yield whole batches in an order that is a function of (seed, epoch); the images left over change with the epoch."""
        yield from map(made, self.recipes(epoch, start))

    def recipes(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor | Drawn]]:
        """Yield the same batches, their views not made yet."""
        targets = self._targets_of(epoch)
        for here in self._parts(epoch, start):
            views = Drawn(len(here), partial(self._views, self._positions[here], epoch))
            yield {"views": views, "targets": torch.from_numpy(targets[here])}

    def _targets_of(self, epoch: int) -> NDArray[np.float32]:
        """Return what is learnt in an epoch, (n, L)."""
        return labels.learnt(self._rows_learnt, self.setup, self.labels, epoch=epoch) if self._drawn_anew else self._targets

    def _parts(self, epoch: int, start: int) -> Iterator[NDArray[np.int64]]:
        """Yield which training images each step takes."""
        order = np.random.Generator(np.random.Philox(key=key(self.setup.seed, _ORDER, epoch))).permutation(len(self._positions))
        yield from (order[step * self._batch : (step + 1) * self._batch] for step in range(start, self.steps_per_epoch))

    def _views(self, positions: NDArray[np.int64], epoch: int, part: slice) -> Tensor:
        views = transforms.batch(self.store, positions[part], self.config.px, self._augment, seed=self.setup.seed, epoch=epoch)
        return torch.from_numpy(views)

    def loss(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the cross-entropy over the labels, or the images, that are known, and how many they are."""
        return self._measured(self.module(batch["views"]), batch["targets"])

    def _measured(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        if self._exclusive:
            return {"loss": losses.masked_cross_entropy(logits, targets), "weight": losses.of_one_class(targets).sum()}
        return {"loss": losses.masked_bce(logits, targets), "weight": (~targets.isnan()).sum()}

    def after_step(self, step: int) -> None:
        """Nothing follows a step."""

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Check that what is frozen did not move."""
        self._check_frozen()
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return the last validation loss where the rate follows it; all else that comes next follows from the seed and the step."""
        return {} if self._val_loss is None else {"val_loss": self._val_loss}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the last validation loss."""
        self._val_loss = state.get("val_loss")


class PackedSteps(FineTuning):
    """Gradient steps on the head alone, over features that are computed once: the steps that the whole network would take.

    The order of the images, the schedule and what is averaged are those of FineTuning, of a frozen backbone and centre views.
    """

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if not setup.predict_only:
            self._rows = torch.from_numpy(self._packed(setup.data.rows("train")))

    def recipes(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor | Drawn]]:
        """Yield batches of features (B, d) in the order of FineTuning."""
        targets = self._targets_of(epoch)
        for here in self._parts(epoch, start):
            yield {"features": self._rows[here], "targets": torch.from_numpy(targets[here])}

    def loss(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the cross-entropy over the labels that are known, and how many they are."""
        with torch.autocast(batch["features"].device.type, enabled=False):
            logits = self.module.head(batch["features"])
        return self._measured(logits, batch["targets"])

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Return nothing: the backbone took part in no step."""
        return {}
