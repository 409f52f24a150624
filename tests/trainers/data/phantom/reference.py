"""The supervised reference that fixes the difficulty: a small residual network from scratch, one recipe, no tuning per finding."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from trainers.data.phantom.layout import read_image, write_chexpert
from trainers.data.phantom.layouts.chexpert import COLUMN_OF, DATASET
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import studies
from trainers.data.phantom.sources import FINDINGS

#: What every table of the difficulty record is measured on: 2,000 labelled patients to train on, 1,000 to test on, one image each.
MEASURED = PhantomParameters(patients_train=2000, patients_valid=1000, px=96, max_studies=1)
EPOCHS, BATCH, RATE, DECAY = 30, 64, 2e-3, 0.05
WIDTHS = (16, 32, 64, 128)


@dataclass(frozen=True, slots=True, kw_only=True)
class Set:
    """Images (n, px, px), labels (n, 6) as on disk with NaN for blank, severities (n, 6), and which rows are `valid`."""

    images: np.ndarray
    labels: np.ndarray
    severities: np.ndarray
    test: np.ndarray


def measured_set(root: Path, parameters: PhantomParameters = MEASURED) -> Set:
    """Write a made data set and read it back from its JPEGs and label files."""
    made = write_chexpert(root, parameters)
    rows = []
    for split in ("train", "valid"):
        with open(made.root / DATASET / f"{split}.csv", encoding="utf-8", newline="") as file:
            rows += list(csv.DictReader(file))
    return Set(
        images=np.stack([read_image(made.root / row["Path"]) for row in rows]),
        labels=np.array([[float(row[COLUMN_OF[name]] or "nan") for name in FINDINGS] for row in rows]),
        severities=np.array([[lesion.severity for lesion in study.lesions] for study in studies(parameters)]),
        test=np.array(["/valid/" in row["Path"] for row in rows]),
    )


class Block(nn.Module):
    """Two convolutions and a way around them."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after))
        same = before == after and stride == 1
        self.around = nn.Identity() if same else nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.second(self.first(x)) + self.around(x))


class Reference(nn.Module):
    """(n, 1, px, px) -> (n, 6): means and maxima of the last map, so that small findings count."""

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(1, WIDTHS[0], 5, 2, 2, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.ReLU())
        blocks = [Block(WIDTHS[max(i - 1, 0)], width, 2 if i else 1) for i, width in enumerate(WIDTHS)]
        self.body = nn.Sequential(stem, *blocks)
        self.head = nn.Linear(2 * WIDTHS[-1], len(FINDINGS))

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(x)
        return self.head(torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1))


def augmented(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn, scale, move and mirror each image a little."""
    side = images.shape[1]
    middle = np.full(2, (side - 1) / 2)
    found = np.empty_like(images)
    for index, image in enumerate(images):
        angle, scale = np.deg2rad(5) * rng.standard_normal(), np.exp(0.08 * rng.standard_normal())
        mirror = -1 if rng.random() < 0.5 else 1
        turn = scale * np.array([[np.cos(angle) * mirror, -np.sin(angle)], [np.sin(angle) * mirror, np.cos(angle)]])
        move = middle - turn @ middle + 0.03 * side * rng.standard_normal(2)
        found[index] = cv2.warpAffine(image, np.column_stack([turn, move]), (side, side), borderMode=cv2.BORDER_REPLICATE)
    return found


def reference_scores(data: Set, *, seed: int = 0, epochs: int = EPOCHS, shuffled: bool = False) -> dict[str, float]:
    """Train on the definite labels of `train` and return the test AUROC of each finding; `shuffled` permutes the training labels."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    pixels = data.images.astype(np.float32)
    pixels = (pixels - pixels.mean((1, 2), keepdims=True)) / (pixels.std((1, 2), keepdims=True) + 1e-3)
    train, labels = pixels[~data.test], np.nan_to_num(data.labels[~data.test], nan=-1.0).astype(np.float32)
    if shuffled:
        labels = rng.permutation(labels)
    model = Reference().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=DECAY)
    steps = len(train) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * steps, pct_start=0.15)
    for _ in range(epochs):
        for chosen in rng.permutation(len(train))[: steps * BATCH].reshape(steps, BATCH):
            batch = torch.from_numpy(augmented(train[chosen], rng))[:, None].contiguous(memory_format=torch.channels_last)
            target = torch.from_numpy(labels[chosen])
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(batch)
            losses = binary_cross_entropy_with_logits(logits.float(), target.clamp(0, 1), reduction="none")
            known = target >= 0
            optimizer.zero_grad()
            ((losses * known).sum() / known.sum()).backward()
            optimizer.step()
            schedule.step()
    scores = _predicted(model, pixels[data.test])
    truth = data.labels[data.test]
    return {name: float(roc_auc_score(truth[:, i], scores[:, i])) for i, name in enumerate(FINDINGS)}


def _predicted(model: Reference, pixels: np.ndarray) -> np.ndarray:
    model.eval()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        parts = [model(torch.from_numpy(part)[:, None]) + model(torch.from_numpy(part)[:, None].flip(3)) for part in np.split(pixels, 10)]
    return torch.cat(parts).float().numpy()
