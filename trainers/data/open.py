"""From a job's data reference to rows and images: what a stage sees is what the job's id was computed from, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from trainers.data.access import Access, ImageStore, Rows
from trainers.data.cards import Card, card_digest, load_card
from trainers.data.decode import read_gray
from trainers.data.draws import Drawn, select
from trainers.data.images import Gallery, open_store
from trainers.data.index import base_of, label_digests, made_of, read_index
from trainers.data.splits import split_of
from trainers.errors import DataError

_TRAIN, _HELD_OUT = "train", "held_out"


def open_data(
    source: Mapping[str, Any],
    draw: Mapping[str, Any] | None,
    roots: Callable[[str], Path],
    cache: Path,
    is_open: Callable[[str], bool],
    card_paths: Sequence[Path] = (),
) -> Access:
    """Open a data reference `{card, card_sha256, files, made?, views?}` behind the gate of a stage.

    The draw is applied to `train` alone (and makes `held_out` for schemes with folds). Raises DataError when the card or a label file is
    not the one that the job names, or the data is made where the job's is not.
    """
    card = load_card(source["card"], card_paths)
    _refuse_other_card(card, source)
    root = root_of(card, roots)
    made = made_of(card, root)
    _refuse_other_making(card, root, source.get("made"), made)
    digests = label_digests(card, root)
    _refuse_other_files(card, root, source.get("files"), digests)
    opened = _Opened(card=card, root=root, draw=draw, use_views=tuple(source.get("views") or card.use_views))
    stores: dict[int, ImageStore] = {}

    def store(px: int) -> ImageStore:
        if px not in stores:
            gallery = Gallery(
                card=card.name, base=base_of(card, root), paths=opened.index.images.tolist(), digests={**digests, "made": made}
            )
            stores[px] = open_store(gallery, px, cache)
        return stores[px]

    return Access(
        card=card.name,
        label_names=card.label_names,
        rows_of=opened.rows_of,
        store=store,
        is_open=is_open,
        policies=card.policies,
        draw_facts=lambda: opened.drawn.facts() if opened.was_drawn and opened.drawn else None,
    )


def root_of(card: Card, roots: Callable[[str], Path]) -> Path:
    """Return where a card's data lies: in this package when it comes with it, else where `roots` says that `card.place` is."""
    return card.shipped_root or Path(roots(card.place))


@dataclass(kw_only=True)
class _Opened:
    """A card's index, read once it is needed."""

    card: Card
    root: Path
    draw: Mapping[str, Any] | None
    use_views: tuple[str, ...]
    was_drawn: bool = False

    @cached_property
    def index(self) -> Rows:
        return read_index(self.card, self.root)

    @cached_property
    def split(self) -> np.ndarray:
        return split_of(self.card, self.index)

    @cached_property
    def drawn(self) -> Drawn | None:
        if self.draw is None:
            return None
        self.was_drawn = True
        return select(self.pool(_TRAIN), self.draw, self.card.primary, self.card.policies)

    def pool(self, split: str) -> Rows:
        """Return all rows of a split with a view that is used."""
        rows = self.index.take(np.flatnonzero((self.split == split) & np.isin(self.index.views, self.use_views)))
        if not len(rows) and split == _TRAIN:
            raise DataError(
                f"data set '{self.card.name}' at {self.root} has no training image with a view among {', '.join(self.use_views)}"
            )
        return rows

    def rows_of(self, split: str) -> Rows | None:
        """Return the rows of a split, or None when there is no such split."""
        if split == _TRAIN:
            return self.drawn.rows if self.drawn else self.pool(_TRAIN)
        if split == _HELD_OUT:
            return self.drawn.held_out if self.drawn else None
        rows = self.pool(split) if split in self.card.split_names else None
        return rows if rows is not None and len(rows) else None


def _refuse_other_card(card: Card, source: Mapping[str, Any]) -> None:
    wanted = source.get("card_sha256")
    if wanted is not None and wanted != card_digest(card):
        raise DataError(
            f"card '{card.name}' has changed since the job was planned ({wanted[:12]} then, {card_digest(card)[:12]} now): "
            "plan and submit the sweep again, which makes new jobs, or put the card back"
        )


def _refuse_other_files(card: Card, root: Path, wanted: Mapping[str, str] | None, found: Mapping[str, str]) -> None:
    for name, digest in (wanted or {}).items():
        if found.get(name) != digest:
            now = found.get(name, "absent")[:12]
            raise DataError(
                f"{name} of data set '{card.name}' at {root} has changed since the job was planned ({digest[:12]} then, {now} now): "
                "plan and submit the sweep again, which makes new jobs, or put the file back"
            )


def _refuse_other_making(card: Card, root: Path, wanted: Mapping[str, Any] | None, found: Mapping[str, Any] | None) -> None:
    if not wanted:
        if found is not None and not card.made.get("always"):
            what = f"{root} holds made data ({found.get('generator')}), and the job is for the real '{card.name}'"
            raise DataError(f"{what}: correct its place in the cluster config")
        return
    again = "submit the sweep again, which makes it"
    if found is None:
        raise DataError(f"{root} holds no made data (no MADE.json), and the job is for made '{card.name}': {again}")
    has = {**(found.get("parameters") or {}), **{name: found.get(name) for name in ("generator", "version")}}
    needs = {**(wanted.get("parameters") or {}), **{name: wanted[name] for name in ("generator", "version") if name in wanted}}
    for name, value in needs.items():
        if has.get(name) != value:
            raise DataError(f"made data at {root} has {name} {has.get(name)!r}, and the job needs {value!r}: {again}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of a data check: `ok`, `warning` or `error`, and a sentence."""

    level: str
    text: str


def verify_card(card: Card, root: Path, sample: int | None = 200) -> list[Finding]:
    """Check a data set on disk: label files, rows, splits, patients that cross them, and `sample` images (evenly spaced; None is all)."""
    findings: list[Finding] = []
    try:
        for name, digest in label_digests(card, root).items():
            findings.append(Finding(level="ok", text=f"{name}: sha256 {digest}"))
        rows = read_index(card, root)
        findings.append(Finding(level="ok", text=_counted("all", rows)))
        split = split_of(card, rows)
    except DataError as error:
        return [*findings, Finding(level="error", text=str(error))]
    findings += [_split_finding(card, rows.take(split == name), name) for name in card.split_names]
    made = made_of(card, root)
    if made is not None:
        findings.append(Finding(level="warning", text=f"made data: {made.get('generator')} version {made.get('version')}"))
    return findings + _image_findings(base_of(card, root), rows, sample)


def _counted(name: str, rows: Rows) -> str:
    return f"{name}: {len(rows):,} images, {len(np.unique(rows.studies)):,} studies, {len(np.unique(rows.patients)):,} patients"


def _split_finding(card: Card, rows: Rows, name: str) -> Finding:
    if not len(rows):
        return Finding(level="warning", text=f"{name}: has no image")
    values = rows.labels[:, rows.label_names.index(card.primary)]
    text = f"{_counted(name, rows)}; {card.primary}: {int((values == 1).sum()):,} positive, {int((values == -1).sum()):,} uncertain"
    return Finding(level="ok" if (values == 1).any() else "warning", text=text)


def _image_findings(base: Path, rows: Rows, sample: int | None) -> list[Finding]:
    looked_at = (
        np.arange(len(rows)) if sample is None else np.unique(np.linspace(0, len(rows) - 1, min(sample, len(rows))).astype(np.int64))
    )
    broken: list[str] = []
    for position in looked_at:
        try:
            read_gray(base / str(rows.images[position]))
        except DataError as error:
            broken.append(str(error))
    summary = f"images: {len(looked_at):,} of {len(rows):,} looked at, {len(broken):,} cannot be read"
    shown = [Finding(level="error", text=text) for text in broken[:20]]
    return [Finding(level="error" if broken else "ok", text=summary), *shown]
