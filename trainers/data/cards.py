"""Data set cards: what a data set's labels are, how it is split and scored, as strict YAML read into frozen values.

A card is `<name>.yaml` in one of the folders of `card_paths` (a cluster config) or in `trainers/data/cards/`; the first one found wins.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from trainers.errors import DataError

SHIPPED = Path(__file__).with_name("cards")
#: Bumped when a reader, a split rule or a draw gives other rows for the same card and files: it is in every card's digest.
DATA_VERSION = 1
#: Fields for people, or for checks before anything runs: they determine no result and are not in the digest.
_NOT_IN_DIGEST = frozenset({"title", "about", "licence", "where", "made", "contamination", "traits"})
_STRICT: Mapping[str, Any] = {"extra": "forbid"}
_SLUG = re.compile(r"[a-z0-9_]+")
#: Columns of predictions that have a meaning of their own.
_COLUMNS = ("image", "patient", "study", "label", "truth", "score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What training makes of labels that are neither positive nor negative; evaluation always drops uncertain ones."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    uncertain: Literal["ignore", "ones", "zeros"] = "ignore"
    missing: Literal["zeros", "ignore"] = "zeros"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRule:
    """How rows come to their split: by the folder that the image path starts with, then by a hash of the patient."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    #: Start of the image path -> split; the longest start that fits counts, "" fits every image.
    official: Mapping[str, Literal["train", "val", "test"]]
    #: Split -> share of the patients of train that it takes away, by hash of the patient id.
    patients_by_hash: Mapping[Literal["val", "test"], float] = field(default_factory=dict)
    salt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One data set, as its YAML says."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    name: str
    title: str
    about: str = ""
    #: A module of `trainers.data.readers`, or the dotted name of one elsewhere.
    reader: str
    task: Literal["multilabel"] = "multilabel"
    #: Slug -> what the label is called on disk, in the order of the model's outputs.
    labels: Mapping[str, str]
    primary: str
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    label_policies: Mapping[str, Policy] = field(default_factory=dict)
    #: The views that are used at all, in every split.
    use_views: tuple[Literal["frontal", "lateral"], ...] = ("frontal", "lateral")
    score_per: Literal["image", "study", "patient"] = "study"
    #: How the scores of the images of one scored unit become one.
    views: Literal["max_logit", "mean_prob", "first"] = "max_logit"
    cluster: Literal["patient", "study", "image"] = "patient"
    splits: SplitRule
    #: Files (or glob patterns) under the data set's folder that determine labels; their sha256 is in every job id.
    label_files: tuple[str, ...]
    #: The card whose place on disk this one shares.
    root: str = ""
    #: A folder beside this module that holds the data itself.
    shipped: str = ""
    #: How data is made for it: `generator`, its `parameters`, and `always: true` when there is no real data of that name.
    made: Mapping[str, Any] = field(default_factory=dict)
    #: Cards whose images are also in this one: weights trained on them may have seen its test images.
    contamination: tuple[str, ...] = ()
    #: Slug -> column on disk: what predictions carry of each unit besides its labels, so that a report can be split by it (`subgroups`).
    traits: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""
    where: str = ""

    @property
    def label_names(self) -> tuple[str, ...]:
        """Return the label names in order."""
        return tuple(self.labels)

    @property
    def place(self) -> str:
        """Return the name under which a cluster config says where the data lies."""
        return self.root or self.name

    @property
    def split_names(self) -> tuple[str, ...]:
        """Return the splits that the card has (a scheme with folds adds `held_out`)."""
        named = {*self.splits.official.values(), *self.splits.patients_by_hash}
        return tuple(name for name in ("train", "val", "test") if name in named)

    @property
    def policies(self) -> dict[str, str]:
        """Return the label policies flat: `uncertain`, `missing`, and `uncertain/<label>` where a label has its own."""
        flat = {"uncertain": self.policy.uncertain, "missing": self.policy.missing}
        for slug, policy in self.label_policies.items():
            flat |= {f"uncertain/{slug}": policy.uncertain, f"missing/{slug}": policy.missing}
        return flat

    @property
    def shipped_root(self) -> Path | None:
        """Return the folder of a data set that comes with this package, or None."""
        return Path(__file__).parent / self.shipped if self.shipped else None


def list_cards(paths: Sequence[Path] = ()) -> dict[str, Path]:
    """Return the file of every card by name, sorted; earlier folders win."""
    found: dict[str, Path] = {}
    for folder in (*paths, SHIPPED):
        for file in sorted(Path(folder).glob("*.yaml")):
            found.setdefault(file.stem, file)
    return dict(sorted(found.items()))


def load_card(name: str, paths: Sequence[Path] = ()) -> Card:
    """Read a card by name. Raises DataError when there is none or it is wrong, with the key and what would be right."""
    files = list_cards(paths)
    if name not in files:
        near = difflib.get_close_matches(name, files, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(files)}"
        raise DataError(f"no data set card '{name}': {hint}")
    file = files[name]
    card = _validated(_read_yaml(file), file)
    problem = _problem(card)
    if problem is None and card.name != name:
        problem = f"name: is '{card.name}', but the file is named '{name}'"
    if problem is not None:
        raise DataError(f"{file}: {problem}")
    return card


def card_digest(card: Card) -> str:
    """Return the sha256 of all that determines rows, labels, splits and scores: the card without its prose."""
    content = {item.name: _plain(getattr(card, item.name)) for item in fields(card) if item.name not in _NOT_IN_DIGEST}
    # Canonical JSON sorts keys, and the order of labels is the order of the model's outputs.
    content["labels"] = [list(pair) for pair in card.labels.items()]
    text = json.dumps({"data": DATA_VERSION, "card": content}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, (Policy, SplitRule)):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _read_yaml(file: Path) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """A safe loader that refuses a key twice."""

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        content: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            if key in content:
                raise DataError(f"{file}:{key_node.start_mark.line + 1}: key '{key}' stands there twice: remove one")
            content[key] = loader.construct_object(value_node, deep=True)
        return content

    Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader=Loader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: is not a YAML file: {' '.join(str(error).split())}") from error


def _validated(content: Any, file: Path) -> Card:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Card).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "unexpected_keyword_argument":
            near = difflib.get_close_matches(str(first["loc"][-1]), [item.name for item in fields(Card)], n=1)
            raise DataError(f"{file}: {where}: unknown key" + (f"; did you mean '{near[0]}'?" if near else "")) from error
        raise DataError(f"{file}: {where or 'the card'}: {first['msg'][0].lower()}{first['msg'][1:]}") from error


def _problem(card: Card) -> str | None:
    """Say what is wrong with a card whose fields all have the right type, or None."""
    labels = set(card.labels)
    if not labels:
        return "labels: there is none"
    if (bad := _bad_name(card)) is not None:
        return bad
    named = [("primary", (card.primary,)), ("label_policies", tuple(card.label_policies))]
    for place, slugs in named + [(f"groups.{name}", group) for name, group in card.groups.items()]:
        for slug in slugs:
            if slug not in labels:
                return f"{place}: no label '{slug}' among {', '.join(card.labels)}"
    if "train" not in card.splits.official.values():
        return "splits.official: nothing is 'train'"
    shares = card.splits.patients_by_hash
    if any(not 0 < share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
        return "splits.patients_by_hash: shares are between 0 and 1, and together below 1"
    if strange := sorted(set(card.made) - {"generator", "parameters", "always"}):
        return f"made.{strange[0]}: unknown key; it has generator, parameters and always"
    if not card.use_views:
        return "use_views: there is none"
    if importlib.util.find_spec(reader_module(card)) is None:
        return f"reader: no reader '{card.reader}' (looked for the module {reader_module(card)})"
    return None


def _bad_name(card: Card) -> str | None:
    """Say which label or trait has a name that no column or metric may have, or None."""
    for slug in card.labels:
        if not _SLUG.fullmatch(slug):
            return f"labels.{slug}: a label's name is lower-case letters, digits and '_', such as 'pleural_effusion'"
    for slug in card.traits:
        if not _SLUG.fullmatch(slug) or slug in _COLUMNS:
            return f"traits.{slug}: a trait's name is lower-case letters, digits and '_', and none of {', '.join(_COLUMNS)}"
    return None


def reader_module(card: Card) -> str:
    """Return the dotted name of the module that reads a card's data."""
    return card.reader if "." in card.reader else f"trainers.data.readers.{card.reader}"
