"""Images that are the same, by name: within a card across its splits, or between what training opens and what is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from trainers.data.access import Rows
from trainers.data.decode import read_gray
from trainers.data.duplicates import MOST_PAIRS, Pair, pairs
from trainers.data.looking import Looked

#: Decoded candidates that are kept, since an image with one copy often has several.
_KEPT_IMAGES = 64
#: A card's rows, the split of each, and what they look like.
Seen = tuple[Rows, np.ndarray, Looked]


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """One image of a pair."""

    card: str
    split: str
    image: str
    patient: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Same:
    """Two images that are the same."""

    first: Copy
    second: Copy
    bits: int
    correlation: float

    def __str__(self) -> str:
        return f"{self.first.image} ({self.first.split}) = {self.second.image} ({self.second.split})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """All pairs that one comparison found; `cut` when there were more than are looked for."""

    first: str
    second: str
    pairs: tuple[Same, ...]
    cut: bool = False

    @property
    def n_second(self) -> int:
        """Return how many images of the second set have a copy in the first."""
        return len({one.second.image for one in self.pairs})

    def only(self, wanted: Callable[[Same], bool]) -> Copies:
        """Return some of the pairs."""
        return replace(self, pairs=tuple(one for one in self.pairs if wanted(one)))

    def shown(self, most: int) -> str:
        """Return the pairs for a sentence, the first few of them."""
        more = f" and {len(self.pairs) - most:,} more" if len(self.pairs) > most else ""
        return ", ".join(str(one) for one in self.pairs[:most]) + more + (f" (the search ended at {MOST_PAIRS:,})" if self.cut else "")


def inside(card: str, seen: Seen) -> Copies:
    """Return the pairs of one card."""
    return _compare(card, seen, card, seen, within=True)


def between(first: str, seen: Seen, second: str, scored: Seen) -> Copies:
    """Return the pairs of an image that training opens and one that is scored."""
    return _compare(first, seen, second, scored, within=False)


def _compare(first: str, seen: Seen, second: str, scored: Seen, *, within: bool) -> Copies:
    left, right = np.flatnonzero(seen[2].shown), np.flatnonzero(scored[2].shown)
    read = lru_cache(maxsize=_KEPT_IMAGES)(read_gray)

    def pixels(one: int, other: int) -> tuple[np.ndarray, np.ndarray]:
        return read(seen[2].files[left[one]]), read(scored[2].files[right[other]])

    found = pairs(seen[2].prints[left], scored[2].prints[right], pixels, within=within)
    named = [_named(pair, first, seen, left, second, scored, right) for pair in found]
    return Copies(first=first, second=second, pairs=tuple(named), cut=len(found) >= MOST_PAIRS)


def _named(pair: Pair, first: str, seen: Seen, left: np.ndarray, second: str, scored: Seen, right: np.ndarray) -> Same:
    return Same(
        first=_copy(first, seen, int(left[pair.first])),
        second=_copy(second, scored, int(right[pair.second])),
        bits=pair.bits,
        correlation=round(pair.correlation, 4),
    )


def _copy(card: str, seen: Seen, at: int) -> Copy:
    rows, split, _ = seen
    return Copy(card=card, split=str(split[at]), image=str(rows.images[at]), patient=str(rows.patients[at]))
