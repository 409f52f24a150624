"""The no-network floor, and the shortest example of a method: features from each file, one logistic regression a label."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from trainers.api import Scores, Setup
from trainers.data import transforms
from trainers.data.access import Rows
from trainers.parts import heads, labels, logistic
from trainers.thumbnail.config import Config


def build(setup: Setup) -> Thumbnail:
    """Build the floor for a card's labels."""
    return Thumbnail(setup)


class Thumbnail:
    """A solver: fitted at once, without a random number."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.config: Config = setup.config
        self.labels = labels.outputs_of(setup)
        self.store = setup.data.images(self.config.px)
        self.module = nn.Linear(width(self.config), len(self.labels))

    def solve(self) -> dict[str, float]:
        """Fit one penalised logistic regression a label; validation, where there is any, chooses its penalty."""
        train, val = self.setup.data.rows("train"), self.setup.data.find("val")
        fits = logistic.fit(
            self.features(train),
            labels.learnt(train, self.setup, self.labels),
            penalties=(self.config.penalty,) if val is None else self.config.penalties,
            validation=None if val is None else (self.features(val), labels.measured(val, self.setup, self.labels)),
        )
        heads.fill(self.module, np.stack([one.weight for one in fits]), np.array([one.bias for one in fits]))
        return logistic.described(fits, self.labels)

    def validate(self) -> Scores | None:
        """Predict the validation split."""
        rows = self.setup.data.find("val")
        return None if rows is None else self.predict(rows)

    @torch.no_grad()
    def predict(self, rows: Rows) -> Scores:
        """Predict rows, in their order."""
        features = torch.from_numpy(self.features(rows)).to(self.module.weight)
        return Scores(rows=rows, logits=self.module(features).cpu().numpy(), labels=self.labels)

    def features(self, rows: Rows) -> NDArray[np.float64]:
        """Return the features of rows, (n, `width(config)`)."""
        return np.array([self.describe(int(position)) for position in rows.position]).reshape(len(rows), width(self.config))

    def describe(self, position: int) -> list[float]:
        """Describe one image: grey levels in [0, 1], logarithms of the file's height, width and aspect, mean and sd."""
        square = transforms.plain(self.store, np.array([position]), self.config.px)[0, 0] / 255.0
        height, wide = self.store.file_shape(position)
        side = self.config.side
        parts = {
            "thumbnail": cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA).ravel().tolist(),
            "shape": [np.log(height), np.log(wide), np.log(wide / height)],
            "intensity": [square.mean(), square.std()],
        }
        return [float(value) for name in self.config.features for value in parts[name]]


def width(config: Config) -> int:
    """Return how many numbers describe an image."""
    return sum({"thumbnail": config.side**2, "shape": 3, "intensity": 2}[name] for name in config.features)
