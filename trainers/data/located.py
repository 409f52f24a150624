"""A card and where its data is on this machine: one data set, or a union of several, each with its own place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainers.data.cards import Card, card_digest, load_card
from trainers.data.index import base_of, file_digest, image_bits, image_files, label_digests, made_of, read_index
from trainers.data.splits import split_of
from trainers.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from trainers.data.access import Rows

#: The generator that made data of a union names: what its members are made by stands below `members`.
UNION = "union"
#: What a 16-bit image stores unless its data says how much less.
FULL_BITS = 16
_AGAIN = "submit the sweep again, which makes it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A card with the folder that its data lies in; of a union, with its members instead."""

    card: Card
    root: Path | None
    members: Mapping[str, Located] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """Return the place for a sentence."""
        return str(self.root) if self.root else ", ".join(f"{one.root}" for one in self.members.values())

    @property
    def base(self) -> Path:
        """Return the folder that label files and image paths start from. Raises DataError when it is not there."""
        assert self.root is not None, "a union has no folder of its own"
        return base_of(self.card, self.root)

    def label_digests(self, digest: Callable[[Path], str] = file_digest) -> dict[str, str]:
        """Return a sha256 of each file and pattern that determines rows and labels; of a union, those of each member and its card."""
        if self.root is not None:
            return label_digests(self.card, self.root, digest)
        found: dict[str, str] = {}
        for name, member in self.members.items():
            found[f"{name}: card"] = card_digest(member.card)
            found |= {f"{name}: {file}": value for file, value in member.label_digests(digest).items()}
        return found

    def index(self) -> Rows:
        """Return all rows, sorted by image, `position` counting from 0. Raises DataError saying what is wrong where."""
        if self.root is not None:
            return read_index(self.card, self.root)
        return _joined(self.card, [member.part(name, self.card.members[name]) for name, member in sorted(self.members.items())])

    def part(self, name: str, splits: Sequence[str]) -> Rows:
        """Return the rows of some splits, whose names and ids start with `<name>/`."""
        import numpy as np

        rows = self.index()
        rows = rows.take(np.isin(self.split_of(rows), splits) & np.isin(rows.views, self.card.use_views))
        if not len(rows):
            raise DataError(f"data set '{name}' at {self.where} has no row in {', '.join(splits)}: leave it out of the union's members")
        return _prefixed(rows, f"{name}/")

    def split_of(self, rows: Rows) -> np.ndarray:
        """Return the split of each row of the index, (n,) str. Raises DataError when a patient crosses splits or an image fits no rule."""
        return split_of(self.card, rows, self.base if self.root is not None else None)

    def files(self, images: Sequence[str]) -> list[Path]:
        """Return the file of each image, in order. Whether it is there is not looked at here."""
        if self.root is not None:
            return image_files(self.card, self.root, images)
        found: dict[str, Path] = {}
        for name, member in self.members.items():
            mine = [image for image in images if image.startswith(f"{name}/")]
            found |= zip(mine, member.files([image.removeprefix(f"{name}/") for image in mine]), strict=True)
        return [found[image] for image in images]

    def bits(self, images: Sequence[str]) -> list[int] | None:
        """Return how many bits the numbers of each 16-bit image have; None where all have 16."""
        if self.root is not None:
            return image_bits(self.card, self.root, images)
        found: dict[str, int] = {}
        for name, member in self.members.items():
            mine = [image for image in images if image.startswith(f"{name}/")]
            known = member.bits([image.removeprefix(f"{name}/") for image in mine])
            found |= zip(mine, known, strict=True) if known else {}
        return [found.get(image, FULL_BITS) for image in images] if found else None

    def made(self) -> Mapping[str, Any] | None:
        """Return what made data says of itself, or None when the data is not made. Of a union, every member is made or none is."""
        if self.root is not None:
            return made_of(self.card, self.root)
        parts = {name: member.made() for name, member in self.members.items()}
        if not any(parts.values()):
            return None
        real = [name for name, part in parts.items() if part is None]
        if real:
            raise DataError(
                f"card '{self.card.name}': {', '.join(real)} is real data and the other members are made: a union is all of one kind"
            )
        return {"generator": UNION, "members": parts}


def locate(card: Card, roots: Callable[[str], Path], card_paths: Sequence[Path] = ()) -> Located:
    """Return a card with its place: in this package when it comes with it, else where `roots` says that `card.place` is."""
    if not card.members:
        return Located(card=card, root=card.shipped_root or Path(roots(card.place)))
    members = {name: locate(load_card(name, card_paths), roots, card_paths) for name in card.members}
    for name, member in members.items():
        if member.members:
            raise DataError(f"card '{card.name}': members.{name} is a union itself: name its members instead")
    return Located(card=card, root=None, members=members)


def refuse_other_making(place: Located, wanted: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return what made data says of itself. Raises DataError when a job is for other data: made for real, real for made, or other made."""
    found = place.made()
    if not wanted:
        if found is not None and not place.card.made.get("always"):
            what = f"{place.where} holds made data ({found.get('generator')}), and the job is for the real '{place.card.name}'"
            raise DataError(f"{what}: correct its place in the cluster config")
        return found
    if found is None:
        raise DataError(f"{place.where} holds no made data (no MADE.json), and the job is for made '{place.card.name}': {_AGAIN}")
    if place.root is None:
        for name, member in place.members.items():
            refuse_other_making(member, wanted["members"][name])
        return found
    names = ("generator", "layout", "version")
    has = {**(found.get("parameters") or {}), **{name: found.get(name) for name in names}}
    needs = {**(wanted.get("parameters") or {}), **{name: wanted[name] for name in names if name in wanted}}
    for name, value in needs.items():
        if has.get(name) != value:
            raise DataError(f"made data at {place.root} has {name} {has.get(name)!r}, and the job needs {value!r}: {_AGAIN}")
    return found


def _prefixed(rows: Rows, prefix: str) -> Rows:
    from dataclasses import replace

    import numpy as np

    def named(ids: np.ndarray) -> np.ndarray:
        return np.char.add(prefix, ids)

    return replace(rows, images=named(rows.images), patients=named(rows.patients), studies=named(rows.studies))


def _joined(card: Card, parts: Sequence[Rows]) -> Rows:
    """Return the rows of a union: labels by slug, NaN where a member does not have one."""
    import numpy as np

    from trainers.data.access import Rows

    count = sum(map(len, parts))
    labels = np.full((count, len(card.labels)), np.nan, np.float32)
    start = 0
    for part in parts:
        for column, slug in enumerate(card.label_names):
            if slug in part.label_names:
                labels[start : start + len(part), column] = part.labels[:, part.label_names.index(slug)]
        start += len(part)
    joined = Rows(
        card=card.name,
        images=np.concatenate([part.images for part in parts]),
        patients=np.concatenate([part.patients for part in parts]),
        studies=np.concatenate([part.studies for part in parts]),
        views=np.concatenate([part.views for part in parts]),
        labels=labels,
        label_names=card.label_names,
        position=np.arange(count, dtype=np.int64),
    )
    joined = joined.take(np.argsort(joined.images, kind="stable"))
    joined.position[:] = np.arange(count)
    return joined
