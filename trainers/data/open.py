"""From a job's data reference to rows and images: what a stage sees is what the job's id was computed from, or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from trainers.data.access import Access, ImageStore, MaskStore, Rows
from trainers.data.cards import Card, card_digest, load_card
from trainers.data.draws import Drawn, select
from trainers.data.images import Gallery, JoinedStore, open_store
from trainers.data.located import Located, locate, refuse_other_making
from trainers.data.masks import FileMasks
from trainers.data.presence import REFUSE, refuse_missing, remembered_missing
from trainers.data.regions import boxes_of, has_boxes
from trainers.data.reports import reports_of
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
    """Open a data reference `{card, card_sha256, files, made?, views?, missing?}` behind the gate of a stage.

    The draw is applied to `train` alone (and makes `held_out` for schemes with folds). Raises DataError when the card or a label file is
    not the one that the job names, the data is made where the job's is not, or images of a split that is open are not on
    disk, which `missing: skip` leaves out instead.
    """
    card = load_card(source["card"], card_paths)
    _refuse_other_card(card, source)
    place = locate(card, roots, card_paths)
    refuse_other_making(place, source.get("made"))
    digests = place.label_digests()
    _refuse_other_files(place, source.get("files"), digests)
    opened = _Opened(
        place=place,
        draw=draw,
        use_views=tuple(source.get("views") or card.use_views),
        missing=source.get("missing", REFUSE),
        cache=cache,
        digests=digests,
    )
    # What this stage opens later, a test split after its choice, is looked at then.
    for split in filter(is_open, card.split_names):
        opened.look(split)
    stores: dict[tuple[int, bool], ImageStore] = {}

    def store(px: int, *, exact: bool = False) -> ImageStore:
        if (px, exact) not in stores:
            stores[px, exact] = store_of(place, opened.index, px, cache, exact=exact)
        return stores[px, exact]

    def masks(px: int, how: str) -> MaskStore:
        return FileMasks(place, opened.index.images.tolist(), px, how, cache, digests)

    return Access(
        card=card.name,
        task=card.task,
        label_names=card.label_names,
        rows_of=opened.rows_of,
        store=store,
        is_open=is_open,
        policies=card.policies,
        draw_facts=lambda: opened.drawn.facts() if opened.was_drawn and opened.drawn else None,
        left_out=opened.left_out,
        parts_of=opened.parts_of,
        features=lambda px, exact: cache / "features" / pixels_key(place, opened.index, px, exact=exact),
        masks=masks if card.task == "segmentation" else None,
        boxes=partial(boxes_of, place) if has_boxes(place) else None,
        reports=lambda rows: reports_of(place, rows, cache, digests, opened.missing),
    )


def gallery_of(place: Located, index: Rows, *, exact: bool = False) -> Gallery:
    """Return the image files of a data set that is no union, in order of position."""
    names = index.images.tolist()
    files, bits = place.files(names), place.bits(names)
    return Gallery(card=place.card.name, names=names, files=files, made=place.made(), exact=exact, bits=bits)


def store_of(place: Located, index: Rows, px: int, cache: Path, *, exact: bool = False) -> ImageStore:
    """Return the images of a data set at a size; of a union, from the stores of its members."""
    if place.root is not None:
        return open_store(gallery_of(place, index, exact=exact), px, cache)
    stores: list[ImageStore] = []
    found: dict[str, tuple[int, int]] = {}
    for name, member in place.members.items():
        rows = member.index()
        found |= {f"{name}/{image}": (len(stores), position) for position, image in enumerate(rows.images.tolist())}
        stores.append(open_store(gallery_of(member, rows, exact=exact), px, cache))
    return JoinedStore(px, stores, [found[image] for image in index.images.tolist()])


def pixels_key(place: Located, index: Rows, px: int, *, exact: bool) -> str:
    """Return what the pixels of a data set at a size are known by, whatever its labels and its place on disk."""
    if place.root is not None:
        return gallery_of(place, index, exact=exact).key(px)
    keys = [f"{name} {gallery_of(member, member.index(), exact=exact).key(px)}" for name, member in place.members.items()]
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Images:
    """Which images of a split are on disk."""

    #: Rows of the index, (n,) int64.
    there: np.ndarray
    gone: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Return what a result says of those that are not."""
        digest = hashlib.sha256("\n".join(self.gone).encode()).hexdigest()
        return {"images": len(self.gone), "of": len(self.there) + len(self.gone), "sha256": digest}


@dataclass(kw_only=True)
class _Opened:
    """A card's index, read once it is needed."""

    place: Located
    draw: Mapping[str, Any] | None
    use_views: tuple[str, ...]
    missing: str
    cache: Path
    digests: Mapping[str, str]
    was_drawn: bool = False
    #: By split, once it was looked at.
    seen: dict[str, _Images] = field(default_factory=dict)

    @property
    def card(self) -> Card:
        return self.place.card

    @cached_property
    def index(self) -> Rows:
        return self.place.index()

    @cached_property
    def split(self) -> np.ndarray:
        return self.place.split_of(self.index)

    def look(self, split: str) -> _Images:
        """Find out which images of a split are on disk. Raises DataError when some are not and the job does not leave them out."""
        if split not in self.seen:
            where = np.flatnonzero((self.split == split) & np.isin(self.index.views, self.use_views))
            names = self.index.images[where].tolist()
            about = {"card": card_digest(self.card), "files": dict(self.digests)}
            gone = remembered_missing(names, self.place.files(names), self.cache, about)
            if self.missing == REFUSE:
                refuse_missing(self.card.name, self.place.where, [names[at] for at in gone], len(names))
            self.seen[split] = _Images(there=np.delete(where, gone), gone=tuple(names[at] for at in gone))
        return self.seen[split]

    def left_out(self) -> dict[str, Any] | None:
        """Return how many images of each split looked at are left out because they are missing, and the sha256 of their names."""
        if self.missing == REFUSE:
            return None
        return {split: one.facts() for split, one in sorted(self.seen.items())}

    @cached_property
    def drawn(self) -> Drawn | None:
        if self.draw is None:
            return None
        self.was_drawn = True
        return select(self.pool(_TRAIN), self.draw, self.card.primary, self.card.policies)

    def pool(self, split: str) -> Rows:
        """Return all rows of a split with a view that is used, and with an image on disk."""
        images = self.look(split)
        rows = self.index.take(images.there)
        if not len(rows) and split == _TRAIN:
            raise DataError(
                f"data set '{self.card.name}' at {self.place.where} has no training image with a view among {', '.join(self.use_views)}"
                + (f" ({len(images.gone):,} images are missing and left out)" if images.gone else "")
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

    def parts_of(self, split: str) -> list[Rows] | None:
        """Return what a split consists of, whatever the draw: its pool, or what folds are made of (`Access.parts`)."""
        draw, rows = self.draw, self.rows_of(split)
        if draw is None or rows is None or split not in (_TRAIN, _HELD_OUT):
            return None
        if draw.get("scheme", "fraction") == "fraction":
            return [self.pool(split)]
        if draw["scheme"] == "leave_pair_out":
            return [rows.take(rows.patients == patient) for patient in dict.fromkeys(rows.patients.tolist())]
        folds = range(draw["folds"]) if split == _TRAIN else [draw["fold"]]
        others = [select(self.pool(_TRAIN), {**draw, "fold": fold}, self.card.primary, self.card.policies).held_out for fold in folds]
        return [held for fold, held in zip(folds, others, strict=True) if held is not None and (split == _HELD_OUT or fold != draw["fold"])]


def _refuse_other_card(card: Card, source: Mapping[str, Any]) -> None:
    wanted = source.get("card_sha256")
    if wanted is not None and wanted != card_digest(card):
        raise DataError(
            f"card '{card.name}' has changed since the job was planned ({wanted[:12]} then, {card_digest(card)[:12]} now): "
            "plan and submit the sweep again, which makes new jobs, or put the card back"
        )


def _refuse_other_files(place: Located, wanted: Mapping[str, str] | None, found: Mapping[str, str]) -> None:
    for name, digest in (wanted or {}).items():
        if found.get(name) != digest:
            now = found.get(name, "absent")[:12]
            raise DataError(
                f"{name} of data set '{place.card.name}' at {place.where} has changed since the job was planned "
                f"({digest[:12]} then, {now} now): "
                "plan and submit the sweep again, which makes new jobs, or put the file back"
            )
