"""The resolver of a real machine: cards, label files and weights on its disks, digests remembered by path, size and times."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.catalog import Declaration
from jobs.paths import RunPaths, write_atomically
from jobs.spec import Json, pretty_json
from jobs.stages import data_root
from orchestrator.errors import DataError, WeightsError
from orchestrator.expansion.references import DataRef, WeightsRef
from orchestrator.model import ClusterConfig, Draws, Sample

if TYPE_CHECKING:
    from trainers.data.cards import Card
    from trainers.data.located import Located

#: What stands in a config instead of the path or the local name of a weights file: its digest is in the id.
FILE = "file"
#: What stands in a sample's config where real weights cannot be had: a fixed random network.
STAND_IN = "stand_in"
_IMAGENET = "imagenet"
#: The share of a sample's made patients that are test patients.
_TEST_SHARE = 1 / 3


class Digests:
    """sha256 of files, remembered by (path, size, mtime, ctime) under the run root's cache: tools that copy set an old mtime."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known: dict[str, list[Json]] | None = None
        self._changed = False

    def of(self, path: Path) -> str:
        """Return the sha256 of a file, read only when it is not remembered."""
        known = self._load()
        about = path.stat()
        key, stamp = str(path.resolve()), [about.st_size, about.st_mtime_ns, about.st_ctime_ns]
        entry = known.get(key)
        if entry is None or entry[:-1] != stamp:
            with path.open("rb") as content:
                entry = known[key] = [*stamp, hashlib.file_digest(content, "sha256").hexdigest()]
            self._changed = True
        return str(entry[-1])

    def save(self) -> None:
        """Keep what was learnt; a cache that cannot be written is no fault."""
        if not self._changed or self._known is None:
            return
        try:
            write_atomically(self._file, pretty_json(self._known).encode())
        except OSError:
            return
        self._changed = False

    def _load(self) -> dict[str, list[Json]]:
        if self._known is None:
            try:
                content = json.loads(self._file.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                content = {}
            self._known = {key: entry for key, entry in content.items() if _is_entry(entry)} if isinstance(content, dict) else {}
        return self._known


def _is_entry(entry: Json) -> bool:
    return isinstance(entry, list) and len(entry) == 4


class DiskResolver:
    """Answers for one machine. In a sample, data sets that can be made are, and weights that are not here have a stand-in."""

    def __init__(self, *, cluster: ClusterConfig, catalog: Mapping[str, Declaration], sample: bool = False) -> None:
        self._cluster = cluster
        self._catalog = catalog
        self._sample = Sample() if sample else None
        self._digests = Digests(RunPaths(cluster.run_root).cache / "digests.json")
        self._cards: dict[str, Card] = {}
        self._weight_files: dict[str, Path] = {}
        self._problems: dict[str, str] = {}
        self._stands_in = False

    def use_sample(self, sample: Sample | None) -> None:
        """Make data of the size that a sweep's `sample` block asks for."""
        self._sample = sample or Sample()

    @property
    def made_data(self) -> bool:
        """Tell whether any data set, or any weights file, asked for so far is made or a stand-in."""
        return self._stands_in

    @property
    def weight_files(self) -> Mapping[str, Path]:
        """Return every weights file that was asked for, by sha256: what a node needs to find them."""
        return dict(self._weight_files)

    def first_unresolved(self) -> str:
        """Return why the first data set that is out of reach is so; empty when none is."""
        return next(iter(self._problems.values()), "")

    def card(self, name: str) -> Card:
        """Return a card. Raises DataError when there is none, or it is wrong."""
        from trainers.data.cards import load_card

        if name not in self._cards:
            self._cards[name] = load_card(name, self._cluster.card_paths)
        return self._cards[name]

    def labels(self, card: str) -> tuple[str, ...]:
        """Return the label names of a card."""
        return self.card(card).label_names

    def task(self, card: str) -> str:
        """Return what kind of labels a card has: `multilabel`, `multiclass`, `segmentation`, `unlabelled`."""
        return self.card(card).task

    def overlap(self, trained: str, card: str, split: str) -> str:
        """Say why training on a card has seen images of a split of another one, as far as cards say it."""
        from trainers.data.overlap import overlap

        return overlap(self.card(trained), self.card(card), split, self.card)

    def pooled(self, card: str, split: str) -> tuple[str, ...]:
        """Return the members of a union that have images in a split of it; nothing for a card that is no union."""
        from trainers.data.overlap import pooled

        return pooled(self.card(card), split)

    def data(self, name: str) -> DataRef:
        """Return the reference of a card; unresolved, with the reason, while its label files are out of reach."""
        from trainers.data.cards import card_digest

        card = self.card(name)
        identity: dict[str, Json] = {"card": name, "card_sha256": card_digest(card), "split": _split_of(card)}
        of_card: dict[str, Any] = {
            "defaults": {"score_per": card.score_per, "views": card.views, "cluster": card.cluster},
            "traits": dict(card.traits),
        }
        made = self._made(card)
        if made is not None:
            self._stands_in = True
            return DataRef(identity={**identity, "made": made}, **of_card)
        try:
            files = self._files(card)
        except DataError as error:
            self._problems[name] = str(error)
            return DataRef(identity={**identity, "files": {}}, resolved=False, problem=str(error), **of_card)
        return DataRef(identity={**identity, "files": files}, **of_card)

    def _files(self, card: Card) -> dict[str, str]:
        found = self._located(card).label_digests(self._digests.of)
        self._digests.save()
        return found

    def _located(self, card: Card) -> Located:
        """Return a card with where its real data lies. Raises DataError saying what to type."""
        from trainers.data.located import locate

        cluster = self._cluster
        machine = {"data": cluster.data, "data_root": cluster.data_root, "made_root": cluster.made_root}
        return locate(card, lambda place: data_root({"card": card.name}, place, machine), cluster.card_paths)

    def _made(self, card: Card) -> dict[str, Any] | None:
        """Return what names the made data that stands for a card: always for some cards, in a sample for all but those that come along."""
        always = bool(card.made.get("always")) or (bool(card.members) and all(self._always_made(name) for name in card.members))
        if not always and (self._sample is None or card.shipped):
            return None
        if card.members:
            return self._made_union(card)
        generator = card.made.get("generator")
        if generator != "phantom":
            raise DataError(
                f"data '{card.name}' has no made stand-in: add `made: {{generator: phantom}}` to its card, or leave it out of the sample"
            )
        from trainers.data.phantom.layout_names import has_layout
        from trainers.data.phantom.parameters import parameters_from

        layout = str(card.made.get("layout", card.reader))
        if not has_layout(layout):
            raise DataError(f"data '{card.name}' has no made stand-in: made data cannot be written in a layout '{layout}'")
        parameters = dict(card.made.get("parameters", {}))
        if self._sample is not None:
            parameters |= self._small(card, parameters, always=always)
        return parameters_from(parameters).fingerprint(layout)

    def _always_made(self, name: str) -> bool:
        return bool(self.card(name).made.get("always"))

    def _made_union(self, card: Card) -> dict[str, Any] | None:
        """Return what names the made members of a union. A union without one is made of made members, so all of them have to be."""
        from trainers.data.located import UNION

        members = {name: self._made(self.card(name)) for name in card.members}
        real = [name for name, made in members.items() if made is None]
        if real:
            raise DataError(f"data '{card.name}': {', '.join(real)} has no made stand-in: leave the union out of the sample")
        # A member that shares another card's place is looked for by that name.
        places = {name: self.card(name).place for name in members}
        return {
            "generator": UNION,
            "members": {name: made if places[name] == name else {**(made or {}), "place": places[name]} for name, made in members.items()},
        }

    def _small(self, card: Card, parameters: Mapping[str, Any], *, always: bool) -> dict[str, Any]:
        """Return the parameters that a sample changes: fewer patients, smaller images, and for each card patients of its own."""
        assert self._sample is not None
        n = self._sample.n
        has_test = card.splits.has("test") and parameters.get("patients_valid", 1) > 0
        test = max(round(n * _TEST_SHARE), 2) if has_test else 0
        small: dict[str, Any] = {"patients_train": n - test, "patients_valid": test, "px": self._sample.px}
        if not always and "seed" not in parameters:
            small["seed"] = int.from_bytes(hashlib.sha256(card.name.encode()).digest()[:3], "big")
        return small

    def folds(self, name: str, draws: Draws) -> int:
        """Return how many folds a scheme has on a card. Raises DataError when they depend on data that is out of reach."""
        if draws.scheme == "kfold":
            return draws.folds
        from trainers.data.draws import folds

        card = self.card(name)
        if self._made(card) is not None:
            raise DataError(f"draws.scheme {draws.scheme}: data '{name}' is made here, and its pairs are not known before it is; use kfold")
        root = self._located(card).root
        if root is None:
            raise DataError(f"draws.scheme {draws.scheme}: data '{name}' is a union, which has no folds; draw fractions of it")
        return folds(card, root, {"scheme": draws.scheme, "by": draws.by})

    def weights(self, value: str, *, arch: str | None) -> WeightsRef | None:
        """Return the file behind a start. Raises WeightsError, saying what to do, when it is not on this machine."""
        from trainers.weights_sources import named_part, resolve_init

        try:
            file = resolve_init(arch or "", value, self._cluster.weights)
        except WeightsError:
            if self._sample is None:
                raise
            self._stands_in = True
            return WeightsRef(sha256=None, named=STAND_IN)
        if file is None:
            return None
        _, part = named_part(value)
        return WeightsRef(sha256=self._known(file), named=None if value == _IMAGENET else f"{FILE}#{part}" if part else FILE)

    def file(self, value: str) -> WeightsRef:
        """Return a file by its path, or by its name in the cluster config. Raises WeightsError when it is not on this machine."""
        path = Path(self._cluster.weights.get(value, Path(value).expanduser())).resolve()
        if path.is_file():
            return WeightsRef(sha256=self._known(path), named=FILE)
        if self._sample is None:
            raise WeightsError(f"there is no file {path}; correct the path, or name the file under `weights:` in the cluster config")
        self._stands_in = True
        return WeightsRef(sha256=None, named=STAND_IN)

    def _known(self, file: Path) -> str:
        """Return the sha256 of a file, which nodes find it by."""
        digest = self._digests.of(file)
        self._digests.save()
        self._weight_files[digest] = file
        return digest


def _split_of(card: Card) -> dict[str, Json]:
    """Return how a card splits its rows, for people: the card's digest covers it."""
    from trainers.data.cards import written_splits

    return written_splits(card)
