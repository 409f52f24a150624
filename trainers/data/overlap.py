"""What training on one card has seen of another's images, as far as cards say it: no file is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from trainers.data.cards import Card, SplitRule

#: Splits that a train job opens: it learns from one and chooses by the other.
_SEEN = frozenset({"train", "val"})
_HELD_OUT = "held_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Splits of one card, and the union that holds them ("" for the card itself)."""

    card: Card
    splits: frozenset[str]
    union: str


def overlap(trained: Card, tested: Card, split: str, cards: Callable[[str], Card]) -> str:
    """Say why training on a card has seen, or may have seen, images of a split of another one; empty when it has not.

    `cards` gives the members of unions. A union has seen the splits of its members that it holds and no more of them, and all that is
    known to share images with them. The splits of one card never overlap, so a card tells nothing of itself.
    """
    if trained.name == tested.name:
        return ""
    looked_at = "train" if split == _HELD_OUT else split
    seen = list(_parts(trained, _SEEN, cards))
    scored = list(_parts(tested, frozenset({looked_at}), cards))
    pairs = [(one, other) for one in seen for other in scored]
    # The plainest reason first: the card itself is in a union.
    pairs.sort(key=lambda pair: pair[0].card.name != pair[1].card.name)
    return next((why for one, other in pairs if (why := _why(one, other))), "")


def pooled(card: Card, split: str) -> tuple[str, ...]:
    """Return the members of a union that may have images in a split of it; nothing for a card that is no union."""
    return tuple(name for name in card.members if split in _splits_of_member(card.splits, name))


def _parts(card: Card, splits: frozenset[str], cards: Callable[[str], Card]) -> Iterator[_Part]:
    """Yield the card, and of a union what of its members is in some of its splits."""
    yield _Part(card=card, splits=splits, union="")
    for name, held in card.members.items():
        if _splits_of_member(card.splits, name) & splits:
            yield _Part(card=cards(name), splits=frozenset(held), union=card.name)


def _splits_of_member(rule: SplitRule, name: str) -> frozenset[str]:
    """Return the splits of a union that images of a member may be in: they are named `<member>/...`."""
    if not rule.official:
        return frozenset(rule.named)
    start = f"{name}/"
    inside = [split for path, split in rule.official.items() if path.startswith(start)]
    around = max((path for path in rule.official if start.startswith(path)), key=len, default=None)
    return frozenset().union(*(_reached(rule, split) for split in [*inside, *([] if around is None else [rule.official[around]])]))


def _reached(rule: SplitRule, split: str | None) -> frozenset[str]:
    """Return where rows that a rule puts into a split end up: those of train also where patients are taken away by hash."""
    if split is None:
        return frozenset()
    return frozenset({split, *rule.patients_by_hash}) if split == "train" else frozenset({split})


def _why(seen: _Part, scored: _Part) -> str:
    one, other = seen.card, scored.card
    if one.name == other.name:
        if not seen.splits & scored.splits:
            return ""
        return ", and ".join(_held(part) for part in (seen, scored) if part.union)
    inside = "".join(f", which '{part.union}' holds" for part in (seen, scored) if part.union)
    for card, named in ((one, other), (other, one)):
        if {named.name, named.place} & set(card.contamination):
            return f"card '{card.name}' says that images of '{named.name}' are in it{inside}"
    if _same_images(one, other) and _meet(seen, scored):
        held = [_held(part) for part in (seen, scored) if part.union]
        return f"'{one.name}' and '{other.name}' are the same images, " + (f"and {' and '.join(held)}" if held else "split in two ways")
    return ""


def _held(part: _Part) -> str:
    splits = [split for split in ("train", "val", "test") if split in part.splits]
    return f"'{part.union}' holds {' and '.join(splits)} of '{part.card.name}'"


def _same_images(one: Card, other: Card) -> bool:
    """Tell whether two cards read the same label files (or, without any, the same names) in the same place."""
    if one.place != other.place or one.members or other.members:
        return False
    return bool(set(one.label_files) & set(other.label_files) or set(one.names_of) & set(other.names_of))


def _meet(seen: _Part, scored: _Part) -> bool:
    """Tell whether two ways of splitting the same images put any into both sets of splits, as far as the rules tell.

    Where both put an image into one split it is as if they were one card, whose val is there to choose by.
    """
    one, other = seen.card, scored.card
    pairs = _pairs(one, other)
    if pairs is None:
        return True
    first, second = one.splits, other.splits
    shares = first.patients_by_hash
    same_hash = shares == second.patients_by_hash and (not shares or (first.salt or one.name) == (second.salt or other.name))
    own = frozenset() if seen.union or scored.union else frozenset({"val"})
    for before, after in pairs:
        learnt, tested = _reached(first, before) & seen.splits, _reached(second, after) & scored.splits
        if learnt and tested and not (same_hash and before == after and not (learnt & tested) - own):
            return True
    return False


def _pairs(one: Card, other: Card) -> list[tuple[str | None, str | None]] | None:
    """Return both splits of each group of images that the rules of two cards tell apart; None when they cannot tell."""
    first, second = one.splits, other.splits
    if first.official and second.official:
        starts = {*first.official, *second.official}
        return [(_longest(first.official, start), _longest(second.official, start)) for start in starts]
    if first.given and second.given:
        return [(first.given.get(word), second.given.get(word)) for word in {*first.given, *second.given}]
    if first.lists and first.lists == second.lists and one.folder == other.folder:
        return [(split, split) for split in first.lists]
    return None


def _longest(official: Mapping[str, str], image: str) -> str | None:
    start = max((start for start in official if image.startswith(start)), key=len, default=None)
    return None if start is None else official[start]
