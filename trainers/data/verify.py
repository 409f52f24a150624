"""Whether a data set on disk is what its card says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainers.data.access import Rows
from trainers.data.cards import Card
from trainers.data.copies import Copies, between, inside
from trainers.data.images import Gallery, PreparedStore
from trainers.data.located import Located
from trainers.data.looking import Looked, Read, Step, look
from trainers.errors import DataError

#: Sides that images are decoded at, the cheapest first; smaller ones than a fingerprint looks at are of no use.
_PREPARED = (64, 96, 128, 192, 224, 256, 320, 384, 448, 512)
#: How many findings of one kind are written out.
SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of a data check: `ok`, `warning` or `error`, and a sentence."""

    level: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """Splits of a card as one side of a comparison: what training opens, or what is scored."""

    name: str
    splits: tuple[str, ...]
    place: Located


@dataclass(slots=True, kw_only=True)
class Check:
    """A check in progress: findings as they come, and images that are the same."""

    #: Where fingerprints are remembered.
    cache: Path | None = None
    step: Step = lambda done, total: None
    findings: list[Finding] = field(default_factory=list)
    copies: list[Copies] = field(default_factory=list)
    _looked: dict[tuple[str, tuple[str, ...]], tuple[Rows, np.ndarray, Looked]] = field(default_factory=dict)

    def add(self, level: str, text: str) -> None:
        """Note one finding."""
        self.findings.append(Finding(level=level, text=text))

    def card(self, place: Located, sample: int | None = 200) -> None:
        """Check a data set: label files, counts, splits, patients that cross them, and `sample` images, evenly spaced.

        None opens every image, and looks for those that are the same.
        """
        card = place.card
        try:
            for name, digest in place.label_digests().items():
                self.add("ok", f"{name}: sha256 {digest}")
            rows = place.index()
            self.add("ok", _counted("all", rows))
            split = place.split_of(rows)
            files, bits = place.files(rows.images.tolist()), place.bits(rows.images.tolist())
            made = place.made()
        except DataError as error:
            self.add("error", str(error))
            return
        self.findings += [_split_finding(card, rows.take(split == name), name) for name in card.split_names]
        if made is not None:
            self.add("warning", f"made data: {made.get('generator')} version {made.get('version')}")
        else:
            self.findings += _count_findings(card, rows, split)
        self._images(card, rows, split, (files, bits), sample)

    def against(self, trained: Role, tested: Role) -> None:
        """Look for images of a test set among those that training opens."""
        first, second = self._of(trained), self._of(tested)
        found = between(trained.name, first, tested.name, second)
        self.copies.append(found)
        what = f"{tested.name} ({' and '.join(tested.splits)}) among images that training on '{trained.name}' opens"
        if found.pairs:
            self.add("error", f"{found.n_second:,} images of {what}: {found.shown(SHOWN)}; {_WAY_OUT}")
        else:
            self.add("ok", f"no image of {what} ({len(second[0]):,} and {len(first[0]):,} looked at)")

    def _of(self, role: Role) -> tuple[Rows, np.ndarray, Looked]:
        key = (role.name, role.splits)
        if key not in self._looked:
            index = rows = role.place.index()
            split = role.place.split_of(rows)
            kept = np.flatnonzero(np.isin(split, role.splits) & np.isin(rows.views, role.place.card.use_views))
            rows, split = rows.take(kept), split[kept]
            names = rows.images.tolist()
            decoded = None if self.cache is None else _decoded(role.place, index, kept, self.cache)
            looked = look(role.place.files(names), self.cache, self.step, again=False, decoded=decoded, bits=role.place.bits(names))
            for text in list(looked.broken.values())[:SHOWN]:
                self.add("error", text)
            self._looked[key] = (rows, split, looked)
        return self._looked[key]

    def _images(
        self, card: Card, rows: Rows, split: np.ndarray, stored: tuple[Sequence[Path], Sequence[int] | None], sample: int | None
    ) -> None:
        files, bits = stored
        count = len(files)
        chosen = np.arange(count) if sample is None else np.unique(np.linspace(0, count - 1, min(sample, count)).astype(np.int64))
        looked = look(
            [files[at] for at in chosen.tolist()],
            self.cache,
            self.step,
            bits=None if bits is None else [bits[at] for at in chosen.tolist()],
        )
        broken = list(looked.broken.values())
        summary = f"images: {len(chosen):,} of {count:,} looked at, {len(broken):,} cannot be read"
        self.add("error" if broken else "ok", summary)
        self.findings += [Finding(level="error", text=text) for text in broken[:SHOWN]]
        self.findings += _size_findings(card, looked)
        flat = np.flatnonzero(~looked.shown & (looked.shapes[:, 0] > 0))
        if len(flat):
            self.add("warning", f"{len(flat):,} images are of one grey: {', '.join(str(looked.files[at]) for at in flat[:3])}")
        if sample is not None and len(chosen) < count:
            self.add("ok", "copies: not looked for in a sample; --all opens every image")
            return
        found = inside(card.name, (rows, split, looked))
        self.copies.append(found)
        self.findings += _copy_findings(found)


def _decoded(place: Located, index: Rows, kept: np.ndarray, cache: Path) -> Read | None:
    """Return what reads rows `kept` of an index from images that `data prepare` or a job decoded; None where none are, or of a union."""
    if place.root is None:
        return None
    names = index.images.tolist()
    files, made = place.files(names), place.made()
    for px in _PREPARED:
        for exact in (False, True):
            gallery = Gallery(card=place.card.name, names=names, files=files, made=made, exact=exact)
            if (cache / "images" / gallery.key(px)).is_dir():
                store = PreparedStore(gallery, px, cache)
                return lambda at: (store.image(int(kept[at])), store.file_shape(int(kept[at])))
    return None


_WAY_OUT = "leave them out by a list (`splits.lists` of a card of your own), or do not score what training saw"


def verify_card(place: Located, sample: int | None = 200) -> list[Finding]:
    """Check a data set on disk against its card, with nothing remembered."""
    check = Check()
    check.card(place, sample)
    return check.findings


def _counted(name: str, rows: Rows) -> str:
    counts = _counts(rows)
    return f"{name}: " + ", ".join(f"{counts[kind]:,} {kind}" for kind in ("images", "studies", "patients"))


def _counts(rows: Rows) -> dict[str, int]:
    return {"images": len(rows), "studies": len(np.unique(rows.studies)), "patients": len(np.unique(rows.patients))}


def _split_finding(card: Card, rows: Rows, name: str) -> Finding:
    if not len(rows):
        return Finding(level="warning", text=f"{name}: has no image")
    if not card.primary:
        return Finding(level="ok", text=_counted(name, rows))
    values = rows.labels[:, rows.label_names.index(card.primary)]
    text = f"{_counted(name, rows)}; {card.primary}: {int((values == 1).sum()):,} positive, {int((values == -1).sum()):,} uncertain"
    return Finding(level="ok" if (values == 1).any() else "warning", text=text)


def _count_findings(card: Card, rows: Rows, split: np.ndarray) -> Iterator[Finding]:
    """Yield where the numbers of the real release, as the card has them, differ from those found."""
    for part, wanted in card.counts.items():
        found: Mapping[str, int] = _counts(rows if part == "all" else rows.take(split == part))
        for kind, number in wanted.items():
            if found[kind] != number:
                text = f"{part}: {found[kind]:,} {kind}, and the release has {number:,}: is it whole, and the version that the card is for?"
                yield Finding(level="warning", text=text)


def _size_findings(card: Card, looked: Looked) -> Iterator[Finding]:
    if not card.image_size:
        return
    other = np.flatnonzero((looked.shapes != card.image_size).any(axis=1) & (looked.shapes[:, 0] > 0))
    if len(other):
        first = other[0]
        shape = "x".join(map(str, looked.shapes[first]))
        wanted = "x".join(map(str, card.image_size))
        yield Finding(level="warning", text=f"{len(other):,} images are not of {wanted} pixels: {looked.files[first]} has {shape}")


def _copy_findings(found: Copies) -> Iterator[Finding]:
    crossing = found.only(lambda pair: pair.first.split != pair.second.split)
    same = found.only(lambda pair: pair.first.split == pair.second.split and pair.first.patient != pair.second.patient)
    own = len(found.pairs) - len(crossing.pairs) - len(same.pairs)
    if crossing.pairs:
        text = f"copies: {len(crossing.pairs):,} pairs of images in two splits are the same: {crossing.shown(SHOWN)}; {_WAY_OUT}"
        yield Finding(level="error", text=text)
    else:
        yield Finding(level="ok", text="copies: no image is in two splits")
    if same.pairs:
        text = f"copies: {len(same.pairs):,} pairs of images of two patients in one split are the same: {same.shown(SHOWN)}"
        yield Finding(level="warning", text=text)
    if own:
        yield Finding(level="ok", text=f"copies: {own:,} pairs of images of one patient in one split are the same")
