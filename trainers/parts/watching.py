"""Watching a network that learns without labels: how well its features tell validation labels, by nearest neighbours and by a linear probe.

Labels are opened for this alone, and nothing that is looked at flows back: the network is in eval mode while it is looked at, the images
are always the same ones, and no random number is drawn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainers.data import transforms
from trainers.data.access import Access, ImageStore, Rows
from trainers.data.policies import truths
from trainers.data.streams import key
from trainers.errors import Diverged, Error
from trainers.parts import logistic
from trainers.parts.metrics import auroc, slug
from trainers.precision import autocast
from trainers.processes import Processes, rows_of_all

Floats = NDArray[np.floating[Any]]

_LOG = logging.getLogger(__name__)
#: Neighbours that vote and the temperature of their votes (Wu et al. 2018, section 3.4; Caron et al. 2021 vote with 20 as well).
NEIGHBOURS, TEMPERATURE = 20, 0.07
#: Of the probe, on standardised features. Fixed: chosen on validation, the probe would be measured on what chose it.
PENALTY = 10.0
_CHOSEN = 0x5EE


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """The images that are watched: some of training, whose labels are known to the watcher, and some of validation, whose are asked."""

    train: Rows
    val: Rows
    labels: tuple[str, ...]
    #: (n, L) float32: 1, 0, or NaN where the card's policies leave an entry out.
    train_truth: Floats
    val_truth: Floats

    @staticmethod
    def of(data: Access, images: int) -> Watch:
        """Choose at most `images` images, half of them of validation; the same for every seed, so that runs can be set side by side.

        Training images without any known label are passed over. Raises Error when the data has no labels or no validation images.
        """
        off = "set it to 0, or pretrain on a card that has"
        if not data.label_names:
            raise Error(f"config.watch_every_epochs: card '{data.card}' has no labels to watch: {off} some")
        val, train = data.find("val"), data.rows("train")
        if val is None or not len(val):
            raise Error(f"config.watch_every_epochs: card '{data.card}' has no validation images to watch: {off} a 'val' split")
        train = train.take(np.flatnonzero((~np.isnan(truths(train, data.policies))).any(1)))
        if not len(train):
            raise Error(f"config.watch_every_epochs: no training image of card '{data.card}' has a known label: {off} some")
        val = _some(val, images // 2)
        train = _some(train, images - len(val))
        found = Watch(
            train=train,
            val=val,
            labels=data.label_names,
            train_truth=truths(train, data.policies),
            val_truth=truths(val, data.policies),
        )
        if unseen := found.not_estimable():
            _LOG.warning(
                "watching %d training and %d validation images of card '%s', of which too few have and have not: %s. "
                "No number is given for these; raise watch_images",
                len(train),
                len(val),
                data.card,
                ", ".join(unseen),
            )
        return found

    def not_estimable(self) -> tuple[str, ...]:
        """Return the labels of which the watched training or validation images hold one class alone."""
        both = [_both(one) for one in zip(self.train_truth.T, self.val_truth.T, strict=True)]
        return tuple(name for name, there in zip(self.labels, both, strict=True) if not there)

    def facts(self) -> dict[str, Any]:
        """Return what a result says of labels that were opened to watch."""
        return {
            "train": len(self.train),
            "val": len(self.val),
            "labels": list(self.labels),
            "not_estimable": list(self.not_estimable()),
        }

    def measure(self, train: Floats, val: Floats) -> dict[str, float]:
        """Measure features (n, d) of both parts: `val/knn/...` and `val/probe/...`, each `auroc/<label>`, the mean, what is missing."""
        unseen = self.not_estimable()
        found: dict[str, float] = {}
        for how, score in (("knn", neighbour_scores), ("probe", probe_scores)):
            areas: dict[str, float] = {}
            for column, name in enumerate(self.labels):
                if name in unseen:
                    continue
                try:
                    area = auroc(self.val_truth[:, column], score(train, self.train_truth[:, column], val))
                except Error as error:
                    # A solver that gives up says nothing of the run that is watched.
                    _LOG.warning("watching: '%s' has no %s: %s", name, how, error)
                    continue
                if area is not None:
                    areas[name] = area
            found |= {f"val/{how}/auroc/{slug(name)}": area for name, area in areas.items()}
            found[f"val/{how}/auroc_not_estimable"] = float(len(self.labels) - len(areas))
            if areas:
                found[f"val/{how}/auroc_macro"] = float(np.mean(list(areas.values())))
        return found


def _some(rows: Rows, count: int) -> Rows:
    """Return at most `count` rows in their order, chosen by their number alone."""
    if len(rows) <= count:
        return rows
    order = np.random.Generator(np.random.Philox(key=key(_CHOSEN, len(rows)))).permutation(len(rows))
    return rows.take(np.sort(order[:count]))


def _both(truths_of: Iterable[Floats]) -> bool:
    return all((truth == 1).any() and (truth == 0).any() for truth in truths_of)


def neighbour_scores(known: Floats, truth: Floats, asked: Floats, *, k: int = NEIGHBOURS, temperature: float = TEMPERATURE) -> Floats:
    """Return for each of `asked` (m, d) the share of positives among its k nearest of `known` (n, d), by weights exp(cosine / temperature).

    Entries whose `truth` (n,) is NaN do not vote; of equally near ones the earlier do (Wu et al. 2018, section 3.4).
    """
    there = ~np.isnan(truth)
    likeness = _directions(asked) @ _directions(known[there]).T  # m, n
    nearest = np.argsort(-likeness, axis=1, kind="stable")[:, :k]
    near = np.take_along_axis(likeness, nearest, axis=1)
    weight = np.exp((near - near.max(1, keepdims=True)) / temperature)
    return (weight * truth[there][nearest]).sum(1) / weight.sum(1)


def _directions(features: Floats) -> Floats:
    features = features.astype(np.float64)
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def probe_scores(known: Floats, truth: Floats, asked: Floats, *, penalty: float = PENALTY) -> Floats:
    """Return the logits of `asked` (m, d) by a logistic regression on `known` (n, d), where `truth` (n,) is not NaN."""
    fit = logistic.fit(known, truth[:, None], penalties=(penalty,))[0]
    return asked.astype(np.float64) @ fit.weight + fit.bias


@torch.no_grad()
def features_of(
    network: nn.Module, encode: Callable[[Tensor], Tensor], width: int, store: ImageStore, rows: Rows, config: Any
) -> NDArray[np.float32]:
    """Return features (n, width) of the centre squares of some rows, the network in eval mode meanwhile; processes share the work.

    Reads `px`, `augment`, `batch_size` and `precision` of the config. Batches are the same ones whatever the number of processes. Raises
    Diverged when a feature is not finite.
    """
    processes, size = Processes(), config.batch_size
    batches = -(-len(rows) // size)
    low, high = (batches * rank // processes.count * size for rank in (processes.rank, processes.rank + 1))
    device = next(network.parameters()).device
    exact = transforms.AUGMENTS[config.augment].exact
    training = network.training
    network.eval()
    found = [torch.empty((0, width), device=device)]
    try:
        with autocast(config.precision, device):
            for first in range(low, min(high, len(rows)), size):
                here = rows.position[first : min(first + size, high)]
                views = torch.from_numpy(transforms.plain(store, here, config.px, as_published=exact))
                found.append(encode(views.to(device)).float())
    finally:
        network.train(training)
    everyone = rows_of_all(torch.cat(found)).cpu().numpy()
    if not np.isfinite(everyone).all():
        raise Diverged("watching: features are not finite; lower lr, set grad_clip, or set precision: fp32")
    return everyone
