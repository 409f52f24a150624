"""AG-CNN by stages, global, local, fusion, or all three at once.

A stage hands on all parts that it predicts with: those that its parents handed on, and its own. A view of an image is drawn once, as fine
as patches need it; what the global branch sees is its mean over squares of pixels, so image and patch show the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainers.ag_cnn import pictures, starts
from trainers.ag_cnn.config import Config
from trainers.ag_cnn.network import FUSION, AgCnn, Seen
from trainers.api import Scores, Setup
from trainers.data import cuts, transforms
from trainers.data.access import Rows
from trainers.data.contrasts import brought_out
from trainers.data.sides import side_of
from trainers.data.streams import key
from trainers.devices import Drawn, made, place
from trainers.errors import Error
from trainers.localisation import Located
from trainers.parts import labels, optimizers, schedules
from trainers.parts.losses import masked_bce
from trainers.pictures import shown
from trainers.precision import autocast
from trainers.weights import fingerprint

_ORDER, _NETWORK = 3, 5


def build(setup: Setup) -> AgCnnTraining:
    """Build the stage that the config asks for. Raises Error or WeightsError when its parents do not fit it."""
    return AgCnnTraining(setup)


class AgCnnTraining:
    """Gradient steps on the cross-entropy of the part that is trained, or on the sum of those of all three."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.config: Config = setup.config
        self.labels = labels.outputs_of(setup)
        config = self.config
        if config.no_finding and "no_finding" in self.labels:
            raise Error(f"config.no_finding: card '{setup.data.card}' has a label of that name, which is learnt as it is: set it to false")
        self.module = AgCnn(config, len(self.labels) + config.no_finding, key(setup.seed, _NETWORK))
        side = config.patch_px or config.px
        self._cut = cuts.Cut(px=side)
        self._drawn_from = setup.data.images(side)
        self._shown_from = setup.data.images(side_of(side, config.crop_pct))
        self._captions: dict[str, str] = {}
        if setup.predict_only:
            place(self.module, setup.device)
            return
        taken = starts.start(self.module, setup, self.labels)
        self.module.freeze(() if config.freeze == "nothing" else taken, still=config.freeze == "all")
        self._drop_unused()
        place(self.module, setup.device)
        self._before = self._what_is_frozen()
        rows = setup.data.rows("train")
        if len(rows) == 0:
            raise Error(f"card '{setup.data.card}' has no training images in this draw: raise its fraction")
        self._positions = rows.position
        targets = labels.learnt(rows, setup, self.labels)
        self._targets = with_no_finding(targets) if config.no_finding else targets
        #: Images a step; a draw smaller than a batch is one batch.
        self._batch = min(config.batch_size, len(rows))
        self.steps_per_epoch = len(rows) // self._batch
        self._optimizer: torch.optim.Optimizer | None = None

    def _drop_unused(self) -> None:
        """Take gradients from classifiers whose loss is not taken, as nothing else reaches them."""
        for name in self.module.parts:
            part = self.module.get_submodule(name)
            if name not in self._trained:
                (part if isinstance(part, nn.Linear) else self.module.branch(name).head).requires_grad_(False)

    # --- training ------------------------------------------------------------------------------------------------------------------------

    @property
    def _trained(self) -> tuple[str, ...]:
        """Return the parts whose loss is taken."""
        if self.config.branch != "joint":
            return (self.config.branch,)
        weights = dict(zip(self.module.parts, self.config.loss_weights, strict=True))
        return tuple(name for name in self.module.parts if weights[name] and name not in self.module.frozen)

    def optimizer(self) -> torch.optim.Optimizer:
        """Make the optimizer over what is not frozen, the fusion with a rate of its own."""
        config, fused = self.config, FUSION in self.module.parts
        branches = nn.ModuleList([self.module.branch(name) for name in self.module.parts[:2]])
        self._optimizer = optimizers.build(
            branches,
            self.module.get_submodule(FUSION) if fused else nn.ModuleList(),
            name=config.optimizer,
            lr=config.lr,
            weight_decay=config.weight_decay,
            decay_norms=config.decay_norms,
            head_lr_factor=config.fusion_lr_factor,
            fused=False,
        )
        return self._optimizer

    def learning_rate_factor(self, step: int) -> float:
        """Return the schedule's factor, by step."""
        total = self.config.epochs * self.steps_per_epoch
        rising = round(self.config.warmup * total)
        if self.config.schedule == "milestones":
            return schedules.milestones(step // self.steps_per_epoch, self.config.milestones)
        return schedules.cosine(step, total, warmup_steps=rising) if self.config.schedule == "cosine" else schedules.warmup(step, rising)

    def before_step(self, step: int) -> None:
        """Leave the rate of the branches where it was, if the schedule is the fusion's alone."""
        if self.config.scheduled == "all" or self._optimizer is None or FUSION not in self.module.parts:
            return
        own = {id(p) for p in self.module.get_submodule(FUSION).parameters()}
        for group in self._optimizer.param_groups:
            if not any(id(p) in own for p in group["params"]):
                group["lr"] = group["initial_lr"]

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Yield whole batches in an order that is a function of (seed, epoch); the images left over change with the epoch."""
        yield from map(made, self.recipes(epoch, start))

    def recipes(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor | Drawn]]:
        """Yield the same batches, their views not made yet."""
        order = np.random.Generator(np.random.Philox(key=key(self.setup.seed, _ORDER, epoch))).permutation(len(self._positions))
        for step in range(start, self.steps_per_epoch):
            here = order[step * self._batch : (step + 1) * self._batch]
            views = Drawn(len(here), partial(self._views, self._positions[here], epoch))
            yield {"views": views, "targets": torch.from_numpy(self._targets[here])}

    def _views(self, positions: NDArray[np.int64], epoch: int, part: slice) -> Tensor:
        augment = transforms.AUGMENTS[self.config.augment]
        views = transforms.batch(self._drawn_from, positions[part], self._cut.px, augment, seed=self.setup.seed, epoch=epoch)
        return torch.from_numpy(self._contrasted(views))

    def _contrasted(self, views: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return brought_out(views, self.config.contrast, self.config.contrast_factor)

    def loss(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the cross-entropy over the labels that are known; of several parts their weighted sum, and each."""
        seen, targets = self.module(batch["views"]), batch["targets"]
        weight = (~targets.isnan()).sum()
        each = {name: masked_bce(seen.logits[name], targets) for name in self._trained}
        if len(each) == 1:
            return {"loss": next(iter(each.values())), "weight": weight}
        weights = dict(zip(self.module.parts, self.config.loss_weights, strict=True))
        total = torch.stack([weights[name] * loss for name, loss in each.items()]).sum()
        return {"loss": total, **{f"loss_{name}": loss for name, loss in each.items()}, "weight": weight}

    def after_step(self, step: int) -> None:
        """Nothing follows a step."""

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Check that what is frozen did not move."""
        if self._before is not None and self._what_is_frozen() != self._before:
            raise RuntimeError("a frozen branch changed during training")
        return {}

    def _what_is_frozen(self) -> str | None:
        frozen = [self.module.get_submodule(name) for name in self.module.frozen]
        if not frozen:
            return None
        if self.module.drifting:
            return fingerprint(nn.ParameterList(p for part in frozen for p in part.parameters()))
        return fingerprint(nn.ModuleList(frozen))

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: what comes next follows from the seed and the step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore nothing."""

    def facts(self) -> dict[str, Any]:
        """Return how boxes were found: of a fusion, as its local branch has it."""
        how = self.module.how
        return {"attention": {name: getattr(how, name) for name in how.__slots__}} if len(self.module.parts) > 1 else {}

    # --- predictions ---------------------------------------------------------------------------------------------------------------------

    def validate(self) -> Scores | None:
        """Predict the validation split, whole and in eval mode."""
        rows = self.setup.data.find("val")
        return None if rows is None else self.predict(rows)

    def predict(self, rows: Rows) -> Scores:
        """Predict the centre square of each image by the last part that learnt, in eval mode, in the order of the rows, dropping none."""
        found = np.empty((len(rows), len(self.labels)), np.float32)
        for here, _, seen in self.seen(rows):
            found[here] = seen.logits[self.module.predicts][:, : len(self.labels)].cpu().numpy()
        return Scores(rows=rows, logits=found, labels=self.labels)

    @torch.no_grad()
    def seen(self, rows: Rows) -> Iterator[tuple[slice, NDArray[np.uint8], Seen]]:
        """Yield which rows, their views (n, 1, side, side) and what the network makes of them, in eval mode."""
        training, device = self.module.training, self.module.attention.device
        self.module.eval()
        try:
            for first in range(0, len(rows), self.config.batch_size):
                here = slice(first, min(first + self.config.batch_size, len(rows)))
                views = self._contrasted(cuts.cut(self._shown_from, rows.position[here], self._cut)[0])
                with autocast(self.config.precision, device):
                    yield here, views, self.module(torch.from_numpy(views).to(device))
        finally:
            self.module.train(training)

    def located(self, rows: Rows) -> Located | None:
        """Return where the network looked in rows, in pixels of their files."""
        boxes, peaks = np.empty((len(rows), 0, 4)), np.empty((len(rows), 0, 2))
        for here, views, seen in self.seen(rows):
            many, px = seen.heats.shape[1], self.config.px
            if boxes.shape[1] == 0:
                boxes, peaks = np.empty((len(rows), many, 4)), np.empty((len(rows), many, 2))
            attended = seen.attended or self.module.attended(seen.heats)
            boxes[here] = attended.boxes.reshape(-1, many, 4).cpu().numpy()
            top = self.module.large(seen.heats).flatten(2).argmax(2).cpu().numpy()
            peaks[here] = np.stack([top % px, top // px], axis=2) + 0.5
            for at in range(*here.indices(len(rows))):
                corner, scale = self._place_of_view(int(rows.position[at]), views.shape[2])
                boxes[at] = (boxes[at] * (views.shape[2] / px) + np.tile(corner, 2)) * scale
                peaks[at] = (peaks[at] * (views.shape[2] / px) + corner) * scale
        return Located(boxes=boxes[:, : len(self.labels)], peaks=peaks[:, : len(self.labels)])

    def _place_of_view(self, position: int, side: int) -> tuple[NDArray[np.float64], float]:
        """Return the left upper corner of a view in the decoded image, x and y, and the pixels of the file that one of these is wide."""
        shape = np.array(self._shown_from.image(position).shape, np.float64)
        return ((shape - side) / 2)[::-1], min(self._shown_from.file_shape(position)) / float(shape.min())

    # --- pictures ------------------------------------------------------------------------------------------------------------------------

    @property
    def captions(self) -> dict[str, str]:
        """Return what each picture shows: of the validation images, and of the test images once they were asked for."""
        rows = None if self.setup.predict_only else self.setup.data.find("val")
        return self._captions if rows is None else pictures.captions("val", shown(rows), self.labels, self.module)

    def pictures(self, epoch: int) -> dict[str, NDArray[np.uint8]]:
        """Return heat map, mask, box and patch of the first validation images."""
        del epoch
        rows = self.setup.data.find("val")
        return {} if rows is None else self._pictured("val", shown(rows))

    def overlays(self, rows: Rows) -> dict[str, NDArray[np.uint8]]:
        """Return the same of test images."""
        self._captions = pictures.captions("test", rows, self.labels, self.module)
        return self._pictured("test", rows)

    def _pictured(self, split: str, rows: Rows) -> dict[str, NDArray[np.uint8]]:
        found: dict[str, NDArray[np.uint8]] = {}
        for here, views, seen in self.seen(rows):
            for index, at in enumerate(range(*here.indices(len(rows)))):
                found[f"{split}-{at + 1}"] = pictures.panel(self.module, views[index, 0], seen, index)
        return found


def with_no_finding(targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return targets (n, L) with one column more: 1 where all labels are known and none is positive, 0 where one is, else NaN."""
    none, some = (targets == 0).all(axis=1), (targets == 1).any(axis=1)
    return np.column_stack([targets, np.where(some, 0, np.where(none, 1, np.nan))]).astype(np.float32)
