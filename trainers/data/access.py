"""Rows and images by split, behind the gate that keeps a test split shut until the choice is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from trainers.errors import DataError, SplitClosed

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from trainers.data.regions import Boxes


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Some images of one card, as parallel arrays.

    `labels` is float32 (n, len(label_names)): 1 positive, 0 negative, -1 uncertain, NaN not mentioned, as on disk, before any policy.
    """

    card: str
    #: Unique within the card (the path that the label file names), and what predictions are keyed by.
    images: np.ndarray  # (n,) str
    patients: np.ndarray  # (n,) str
    studies: np.ndarray  # (n,) str
    views: np.ndarray  # (n,) str: frontal | lateral
    labels: np.ndarray  # (n, L) float32
    label_names: tuple[str, ...]
    #: Position of each row in the card's whole index: the key of its augmentation stream and of the image store.
    position: np.ndarray  # (n,) int64
    #: What the card declares of each image, such as sex: (n,) str, empty where the data does not say. No trainer sees it.
    traits: Mapping[str, np.ndarray] = field(default_factory=dict)
    #: Which split the data itself says that each image is in, as it is written there: (n,) str; None where it says nothing.
    given: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, where: np.ndarray) -> Rows:
        """Return the rows at integer positions or under a boolean mask, in that order."""
        return replace(
            self,
            images=self.images[where],
            patients=self.patients[where],
            studies=self.studies[where],
            views=self.views[where],
            labels=self.labels[where],
            position=self.position[where],
            traits={name: texts[where] for name, texts in self.traits.items()},
            given=None if self.given is None else self.given[where],
        )

    def select(self, names: tuple[str, ...]) -> Rows:
        """Return the same rows with these label columns, in this order. Raises KeyError on an unknown name."""
        columns = [self.label_names.index(name) if name in self.label_names else _unknown(name, self.label_names) for name in names]
        return replace(self, labels=self.labels[:, columns], label_names=names)


def _unknown(name: str, known: tuple[str, ...]) -> int:
    raise KeyError(f"no label '{name}' among {', '.join(known)}")


class ImageStore(Protocol):
    """Decoded images of one card: grayscale uint8 whose short side is `px`, aspect kept."""

    px: int

    def image(self, position: int) -> np.ndarray:
        """Return one image, uint8 (height, width). Raises DataError naming the file when it cannot be decoded."""
        ...

    def file_shape(self, position: int) -> tuple[int, int]:
        """Return the (height, width) of the file on disk, before any resizing."""
        ...


class MaskStore(Protocol):
    """Masks of the structures of one card, each brought to a square as the whole image is."""

    px: int
    #: In the order of the card's labels.
    structures: tuple[str, ...]

    def mask(self, position: int) -> np.ndarray:
        """Return the masks of an image, uint8 (structures, px, px): 255 where a pixel is wholly inside. Raises DataError."""
        ...

    def known(self, position: int) -> np.ndarray:
        """Return which structures are annotated in an image, bool (structures,). Raises DataError."""
        ...

    def full(self, position: int) -> Mapping[str, np.ndarray]:
        """Return the annotated structures of an image as fine as on disk, uint8 (height, width), 1 inside. Raises DataError."""
        ...


class Access:
    """The only way from a stage to rows and images of a job's data.

    `rows_of` gives a split's rows (draw and view filters already applied to `train`), `is_open` says whether a split may be opened now.
    Every split that was opened, and the ids that were handed out, are remembered for the job's record.
    """

    def __init__(
        self,
        *,
        card: str,
        label_names: tuple[str, ...],
        rows_of: Callable[[str], Rows | None],
        store: Callable[..., ImageStore],
        is_open: Callable[[str], bool],
        policies: Mapping[str, str] | None = None,
        draw_facts: Callable[[], Mapping[str, Any] | None] = lambda: None,
        left_out: Callable[[], Mapping[str, Any] | None] = lambda: None,
        parts_of: Callable[[str], Sequence[Rows] | None] = lambda split: None,
        features: Callable[[int, bool], Path] | None = None,
        masks: Callable[[int, str], MaskStore] | None = None,
        boxes: Callable[[], Boxes] | None = None,
        reports: Callable[[Rows], list[str | None] | None] = lambda rows: None,
        task: str = "multilabel",
    ) -> None:
        self.card = card
        #: What kind of labels the card has.
        self.task = task
        self.label_names = label_names
        self.policies = dict(policies or {})
        self._rows_of = rows_of
        self._store = store
        self._is_open = is_open
        self._draw_facts = draw_facts
        self._left_out = left_out
        self._parts_of = parts_of
        #: (px, exact) -> the folder for features of these images at that size; None where none are kept.
        self.features = features
        self._masks = masks
        self._boxes = boxes
        self._reports = reports
        self.opened: dict[str, Rows] = {}
        self._pooled: dict[str, tuple[Rows, ...]] = {}

    def rows(self, split: str) -> Rows:
        """Return the rows of a split. Raises SplitClosed when the stage may not open it (yet), DataError when the card has none."""
        found = self.find(split)
        if found is None:
            raise SplitClosed(f"card '{self.card}' has no '{split}' split")
        return found

    def find(self, split: str) -> Rows | None:
        """Return the rows of a split, or None when the card has no such split. Raises SplitClosed as `rows` does."""
        if not self._is_open(split):
            raise SplitClosed(
                f"split '{split}' of card '{self.card}' is shut here: a stage opens its own splits only, "
                "and a test split only after its choice is written"
            )
        if split not in self.opened:
            rows = self._rows_of(split)
            if rows is None:
                return None
            self.opened[split] = rows
        return self.opened[split]

    def parts(self, rows: Rows) -> tuple[Rows, ...]:
        """Return what the split of some opened rows consists of, whatever was drawn of it: sets of rows that are open as a whole.

        For what is computed once for all draws of a split, without a look at its labels. A split with draws is one part, its pool; with
        folds it is the other folds (`held_out`: its own), or one part a patient. Raises ValueError for rows that this did not hand out.
        """
        split = next((name for name, opened in self.opened.items() if opened is rows), None)
        if split is None:
            raise ValueError("parts of rows that were not handed out here")
        if split not in self._pooled:
            found = self._parts_of(split)
            self._pooled[split] = (rows,) if found is None else tuple(found)
        return self._pooled[split]

    def images(self, px: int, *, exact: bool = False) -> ImageStore:
        """Return the store of this card's images with short side `px`; `exact` resizes them as PIL and torchvision do."""
        return _Guarded(self._store(px, exact=True) if exact else self._store(px), self)

    def masks(self, px: int, how: str) -> MaskStore:
        """Return the store of this card's masks as squares of `px`, made small in the way that `how` names (`trainers.data.masks`).

        Raises DataError when the data has none.
        """
        if self._masks is None:
            raise DataError(f"card '{self.card}' has no masks here: name a card of structures, such as jsrt_lung")
        return _GuardedMasks(self._masks(px, how), self)

    def boxes(self, rows: Rows) -> Boxes | None:
        """Return the boxes in some opened rows; None where the card's reader knows of none.

        Raises SplitClosed for rows of a split that is shut, DataError when boxes cannot be read.
        """
        if self._boxes is None:
            return None
        self._refuse_shut(rows, "boxes")
        return self._boxes().of_images(rows.images)

    def reports(self, rows: Rows) -> list[str | None] | None:
        """Return the report of each of some opened rows, None where there is none; None in all where the card's reader knows of none.

        Raises SplitClosed for rows of a split that is shut, DataError when a report is missing or cannot be read.
        """
        self._refuse_shut(rows, "reports")
        return self._reports(rows)

    def _refuse_shut(self, rows: Rows, what: str) -> None:
        import numpy as np

        shut = np.setdiff1d(rows.position, self.handed_out())
        if len(shut):
            raise SplitClosed(f"{what} of image {shut[0]} of card '{self.card}' belong to no split that this stage has opened")

    def draw_facts(self) -> Mapping[str, Any] | None:
        """Return the record of the draw once `train` or `held_out` was opened: its sha256 and counts; None without a draw."""
        return self._draw_facts()

    def left_out(self) -> Mapping[str, Any] | None:
        """Return by split what a job left out because its image is not on disk; None for a job that would have been refused."""
        return self._left_out()

    def pooled(self) -> dict[str, int]:
        """Return by split how many images were handed out in its parts, those of other draws among them."""
        return {split: sum(map(len, parts)) for split, parts in sorted(self._pooled.items())}

    @property
    def openings(self) -> int:
        """Return how often something was handed out that had not been before."""
        return len(self.opened) + len(self._pooled)

    def handed_out(self) -> np.ndarray:
        """Return the positions of every row that was handed out so far, in a split or in its parts."""
        import numpy as np

        parts = [rows.position for rows in (*self.opened.values(), *(part for parts in self._pooled.values() for part in parts))]
        return np.unique(np.concatenate(parts)) if parts else np.empty(0, np.int64)


class _Gate:
    """Lets nothing pass that is of an image whose row was not handed out."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self._allowed: set[int] = set()
        self._openings = 0

    def check(self, position: int, what: str) -> None:
        if self.access.openings != self._openings:
            self._allowed = set(self.access.handed_out().tolist())
            self._openings = self.access.openings
        if int(position) not in self._allowed:
            raise SplitClosed(f"{what} {position} of card '{self.access.card}' belongs to no split that this stage has opened")


class _Guarded:
    """An image store that opens no image whose row was not handed out."""

    def __init__(self, store: ImageStore, access: Access) -> None:
        self.px = store.px
        self._store = store
        self._gate = _Gate(access)

    def image(self, position: int) -> np.ndarray:
        self._gate.check(position, "image")
        return self._store.image(position)

    def file_shape(self, position: int) -> tuple[int, int]:
        self._gate.check(position, "image")
        return self._store.file_shape(position)


class _GuardedMasks:
    """A mask store that shows no mask of an image whose row was not handed out."""

    def __init__(self, store: MaskStore, access: Access) -> None:
        self.px, self.structures = store.px, store.structures
        self._store = store
        self._gate = _Gate(access)

    def mask(self, position: int) -> np.ndarray:
        self._gate.check(position, "the mask of image")
        return self._store.mask(position)

    def known(self, position: int) -> np.ndarray:
        self._gate.check(position, "the mask of image")
        return self._store.known(position)

    def full(self, position: int) -> Mapping[str, np.ndarray]:
        self._gate.check(position, "the mask of image")
        return self._store.full(position)
