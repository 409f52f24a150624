"""A linear classifier on a table of vectors, solved at once or trained by Adam as Ark+'s linear probe is."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainers.api import Scores, Setup
from trainers.data import transforms
from trainers.data.access import Rows
from trainers.data.streams import key
from trainers.data.vectors import Vectors, read_vectors
from trainers.devices import place
from trainers.embedding_probe.config import Config
from trainers.errors import Error
from trainers.parts import heads, labels, logistic, losses
from trainers.parts.logistic_together import fit_together
from trainers.weights_sources import STAND_IN

_LOG = logging.getLogger(__name__)
_HEAD, _ORDER = 1, 2
#: Side of the thumbnail that stands in where a sample has no table.
_SIDE = 8


def build(setup: Setup) -> Solved | Stepped:
    """Build the classifier that the config asks for. Raises DataError when the table cannot be read."""
    return Solved(setup) if setup.config.solver == "lbfgs" else Stepped(setup)


class _Probe:
    """What both ways share: the vectors, the classifier in double precision, and prediction."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.config: Config = setup.config
        self.labels = labels.outputs_of(setup)
        self.table = _table_of(setup)
        if self.table is not None and not setup.predict_only:
            _LOG.info("%s", self.table.sentence())
        self._joined: list[tuple[Rows, NDArray[np.float32]]] = []
        width = _SIDE**2 if self.table is None else self.table.dimension
        self.module: nn.Linear = heads.linear(width, len(self.labels), seed=key(setup.seed, _HEAD)).double()
        place(self.module, setup.device)

    def vectors(self, rows: Rows) -> NDArray[np.float32]:
        """Return the vectors (n, d) of rows, in their order. Raises DataError naming images that have none."""
        known = next((found for other, found in self._joined if other is rows), None)
        if known is None:
            known = _thumbnails(self.setup, rows) if self.table is None else self.table.of(rows.images)
            self._joined.append((rows, known))
        return known

    def validate(self) -> Scores | None:
        """Predict the validation split."""
        rows = self.setup.data.find("val")
        return None if rows is None else self.predict(rows)

    @torch.no_grad()
    def predict(self, rows: Rows) -> Scores:
        """Predict rows, in their order, dropping none."""
        found = self.module(torch.from_numpy(self.vectors(rows)).to(self.module.weight))
        return Scores(rows=rows, logits=found.float().cpu().numpy(), labels=self.labels)

    def facts(self) -> dict[str, Any]:
        """Return what a result says of the table: how many vectors there are, how wide, and how many no image here asked for."""
        return {} if self.table is None else {"embeddings": self.table.facts()}


class Solved(_Probe):
    """Penalised logistic regressions, one solution each."""

    def solve(self) -> dict[str, float]:
        """Fit one logistic regression a label; validation, where there is any, chooses its penalty."""
        train, val = self.setup.data.rows("train"), self.setup.data.find("val")
        fits = fit_together(
            self.vectors(train),
            labels.learnt(train, self.setup, self.labels),
            penalties=(self.config.penalty,) if val is None else self.config.penalties,
            validation=None if val is None else (self.vectors(val), labels.measured(val, self.setup, self.labels)),
        )
        heads.fill(self.module, np.stack([one.weight for one in fits]), np.array([one.bias for one in fits]))
        return logistic.described(fits, self.labels)


class Stepped(_Probe):
    """Adam on the cross-entropy in double precision (Ark+, its linear probe)."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        if setup.predict_only:
            return
        rows = setup.data.rows("train")
        if len(rows) == 0:
            raise Error(f"card '{setup.data.card}' has no training images in this draw: raise its fraction")
        self._features = torch.from_numpy(self.vectors(rows)).double()
        self._targets = torch.from_numpy(labels.learnt(rows, setup, self.labels)).double()
        self.steps_per_epoch = -(-len(rows) // self.config.batch_size)

    def optimizer(self) -> torch.optim.Optimizer:
        """Make Adam over weights and biases, without decay."""
        return torch.optim.Adam(self.module.parameters(), lr=self.config.lr)

    def learning_rate_factor(self, step: int) -> float:
        """Return the factor of an epoch's rate, on the half cosine from `lr` to `lr_end` (torch's CosineAnnealingLR)."""
        config = self.config
        share = min(1.0, (step // self.steps_per_epoch) / (config.lr_epochs or config.epochs))
        return (config.lr_end + (config.lr - config.lr_end) * (1 + math.cos(math.pi * share)) / 2) / config.lr

    def batches(self, epoch: int, start: int = 0) -> Iterator[dict[str, Tensor]]:
        """Yield all training vectors in an order that is a function of (seed, epoch)."""
        generator = np.random.Generator(np.random.Philox(key=key(self.setup.seed, _ORDER, epoch)))
        order = torch.from_numpy(generator.permutation(len(self._features)))
        for here in order.split(self.config.batch_size)[start:]:
            yield {"features": self._features[here], "targets": self._targets[here]}

    def loss(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the cross-entropy over the labels that are known (`losses.masked_bce`), and how many they are."""
        logits = self.module(batch["features"])
        return {"loss": losses.masked_bce(logits, batch["targets"]), "weight": (~batch["targets"].isnan()).sum()}

    def after_step(self, step: int) -> None:
        """Nothing follows a step."""

    def after_epoch(self, epoch: int) -> dict[str, float]:
        """Return nothing more."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: what comes next follows from the seed and the step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore nothing."""


def _table_of(setup: Setup) -> Vectors | None:
    """Return the table of a job; None in a sample that has none, where a thumbnail of each image stands in."""
    config: Config = setup.config
    if config.embeddings == STAND_IN:
        return None
    file = setup.weights.get("embeddings")
    if file is None:
        raise Error(f"config.embeddings: '{config.embeddings}' is no table of this job: name a parquet, csv or npz file")
    return read_vectors(file, setup.data.card, config.id_column)


def _thumbnails(setup: Setup, rows: Rows) -> NDArray[np.float32]:
    store = setup.data.images(4 * _SIDE)
    squares = transforms.plain(store, rows.position, 4 * _SIDE)[:, 0]
    small = [cv2.resize(square, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).ravel() for square in squares]
    return np.array(small, np.float32).reshape(len(rows), _SIDE**2) / np.float32(255)
