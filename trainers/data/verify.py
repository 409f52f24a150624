"""Whether a data set on disk is what its card says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainers.data.access import Rows
from trainers.data.cards import Card
from trainers.data.decode import read_gray
from trainers.data.located import Located
from trainers.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of a data check: `ok`, `warning` or `error`, and a sentence."""

    level: str
    text: str


def verify_card(place: Located, sample: int | None = 200) -> list[Finding]:
    """Check a data set on disk: label files, rows, splits, patients that cross them, and `sample` images (evenly spaced; None is all)."""
    findings: list[Finding] = []
    card = place.card
    try:
        for name, digest in place.label_digests().items():
            findings.append(Finding(level="ok", text=f"{name}: sha256 {digest}"))
        rows = place.index()
        findings.append(Finding(level="ok", text=_counted("all", rows)))
        split = place.split_of(rows)
        files = place.files(rows.images.tolist())
    except DataError as error:
        return [*findings, Finding(level="error", text=str(error))]
    findings += [_split_finding(card, rows.take(split == name), name) for name in card.split_names]
    made = place.made()
    if made is not None:
        findings.append(Finding(level="warning", text=f"made data: {made.get('generator')} version {made.get('version')}"))
    return findings + _image_findings(files, sample)


def _counted(name: str, rows: Rows) -> str:
    return f"{name}: {len(rows):,} images, {len(np.unique(rows.studies)):,} studies, {len(np.unique(rows.patients)):,} patients"


def _split_finding(card: Card, rows: Rows, name: str) -> Finding:
    if not len(rows):
        return Finding(level="warning", text=f"{name}: has no image")
    if not card.primary:
        return Finding(level="ok", text=_counted(name, rows))
    values = rows.labels[:, rows.label_names.index(card.primary)]
    text = f"{_counted(name, rows)}; {card.primary}: {int((values == 1).sum()):,} positive, {int((values == -1).sum()):,} uncertain"
    return Finding(level="ok" if (values == 1).any() else "warning", text=text)


def _image_findings(files: list[Path], sample: int | None) -> list[Finding]:
    looked_at = (
        np.arange(len(files)) if sample is None else np.unique(np.linspace(0, len(files) - 1, min(sample, len(files))).astype(np.int64))
    )
    broken: list[str] = []
    for position in looked_at:
        try:
            read_gray(files[position])
        except DataError as error:
            broken.append(str(error))
    summary = f"images: {len(looked_at):,} of {len(files):,} looked at, {len(broken):,} cannot be read"
    shown = [Finding(level="error", text=text) for text in broken[:20]]
    return [Finding(level="error" if broken else "ok", text=summary), *shown]
