"""Data set cards: what a data set's labels are, how it is split and scored, as strict YAML read into frozen values.

A card is `<name>.yaml` in one of the folders of `card_paths` (a cluster config) or in `trainers/data/cards/`; the first one found wins.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from trainers.data.card_checks import problem_of, reader_source
from trainers.errors import DataError

SHIPPED = Path(__file__).with_name("cards")
#: Bumped when a reader, a split rule or a draw gives other rows for the same card and files: it is in every card's digest.
DATA_VERSION = 1
#: Fields for people, or for checks before anything runs: they determine no result and are not in the digest.
_NOT_IN_DIGEST = frozenset({"title", "about", "licence", "where", "made", "contamination", "traits", "folder", "counts", "image_size"})
#: Fields that are in the digest only where a card sets them: they came later, and ids made before them stay.
_IN_DIGEST_WHEN_SET = frozenset({"options", "names_of", "sha256", "members", "given", "lists", "unlisted", "ranges"})
_STRICT: Mapping[str, Any] = {"extra": "forbid"}
Split = Literal["train", "val", "test"]
#: Soft targets that stand for "uncertain": between these, uniform (U-Ones and U-Zeros with label smoothing, Pham et al., 2021).
LSR_RANGES: Mapping[str, tuple[float, float]] = {"lsr_ones": (0.55, 0.85), "lsr_zeros": (0.0, 0.3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What training makes of labels that are neither positive nor negative; evaluation always drops uncertain ones."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    uncertain: Literal["ignore", "ones", "zeros", "lsr_ones", "lsr_zeros"] = "ignore"
    missing: Literal["zeros", "ignore"] = "zeros"
    #: Between which numbers a soft target lies, where it is not between those of `LSR_RANGES`.
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def written(self) -> str:
        """Return what becomes of uncertain labels as one text, such as `ones`, `lsr_ones` or `lsr_ones(0.6,0.8)`."""
        if self.uncertain not in self.ranges:
            return self.uncertain
        low, high = self.ranges[self.uncertain]
        return f"{self.uncertain}({low:g},{high:g})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRule:
    """How rows come to their split: by one of `official`, `given` and `lists`, then by a hash of the patient."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    #: Start of the image path -> split; the longest start that fits counts, "" fits every image.
    official: Mapping[str, Split] = field(default_factory=dict)
    #: What the data itself says of a row, such as a column `split` -> split.
    given: Mapping[str, Split] = field(default_factory=dict)
    #: Split -> a file that names its images, one a line (what follows a space, comma or tab is not read), by path or by file name.
    #: It lies in the data set's folder, or beside the card.
    lists: Mapping[Split, str] = field(default_factory=dict)
    #: What becomes of rows that `given` or `lists` do not name.
    unlisted: Literal["refuse", "leave_out"] = "refuse"
    #: Split -> share of the patients of train that it takes away, by hash of the patient id.
    patients_by_hash: Mapping[Literal["val", "test"], float] = field(default_factory=dict)
    salt: str = ""

    def has(self, split: str) -> bool:
        """Tell whether the data itself says which rows a split has."""
        return split in {*self.official.values(), *self.given.values(), *self.lists}

    @property
    def named(self) -> tuple[str, ...]:
        """Return the splits that some rule gives rows to."""
        found = {*self.official.values(), *self.given.values(), *self.lists, *self.patients_by_hash}
        return tuple(name for name in ("train", "val", "test") if name in found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One data set, as its YAML says."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    name: str
    title: str
    about: str = ""
    #: A module of `trainers.data.readers`, or the dotted name of one elsewhere.
    reader: str = ""
    #: `multiclass`: one label of a row is positive. `segmentation`: labels are structures with a mask. `unlabelled`: to pretrain on.
    task: Literal["multilabel", "multiclass", "segmentation", "unlabelled"] = "multilabel"
    #: Slug -> what the label is called on disk, in the order of the model's outputs.
    labels: Mapping[str, str] = field(default_factory=dict)
    #: The label that draws are stratified on; none for a data set without labels.
    primary: str = ""
    #: What the reader has to be told of this data set, such as the columns of a file of the user's own.
    options: Mapping[str, Any] = field(default_factory=dict)
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
    label_files: tuple[str, ...] = ()
    #: Glob patterns of files whose names determine rows and labels; the sha256 of their names is in every job id.
    names_of: tuple[str, ...] = ()
    #: File -> the sha256 that it must have: another file is refused.
    sha256: Mapping[str, str] = field(default_factory=dict)
    #: Of a union: card -> the splits of it that belong to this one. Images are named `<card>/<image>`.
    members: Mapping[str, tuple[Split, ...]] = field(default_factory=dict)
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
    #: `all` or a split -> `images`, `studies`, `patients` -> how many of them the real release has.
    counts: Mapping[Literal["all", "train", "val", "test"], Mapping[Literal["images", "studies", "patients"], int]] = field(
        default_factory=dict
    )
    #: Height and width of every file of the real release, where they are all of one size.
    image_size: tuple[int, int] | tuple[()] = ()
    licence: str = ""
    where: str = ""
    #: Where the card lies, which is set as it is read.
    folder: str = ""

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
        return self.splits.named

    @property
    def policies(self) -> dict[str, str]:
        """Return the label policies flat: `uncertain`, `missing`, and `uncertain/<label>` where a label has its own."""
        flat = {"uncertain": self.policy.written, "missing": self.policy.missing}
        for slug, policy in self.label_policies.items():
            flat |= {f"uncertain/{slug}": policy.written, f"missing/{slug}": policy.missing}
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
    card = replace(_validated(_read_yaml(file), file), folder=str(file.parent.absolute()))
    problem = problem_of(card)
    if problem is None and card.name != name:
        problem = f"name: is '{card.name}', but the file is named '{name}'"
    if problem is not None:
        raise DataError(f"{file}: {problem}")
    return card


def card_digest(card: Card) -> str:
    """Return the sha256 of all that determines rows, labels, splits and scores: the card without its prose, and a reader from outside."""
    content = {item.name: _plain(getattr(card, item.name)) for item in fields(card) if _counts(card, item)}
    # Canonical JSON sorts keys, and the order of labels is the order of the model's outputs.
    content["labels"] = [list(pair) for pair in card.labels.items()]
    if (source := reader_source(card)) is not None:
        content["reader_source"] = source
    text = json.dumps({"data": DATA_VERSION, "card": content}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def written_splits(card: Card) -> dict[str, Any]:
    """Return the split rules that a card writes, as plain values."""
    return _plain(card.splits)


def _counts(value: Any, item: Field[Any]) -> bool:
    """Tell whether a field is in the digest."""
    if item.name in _NOT_IN_DIGEST:
        return False
    default = item.default if item.default_factory is MISSING else item.default_factory()
    return item.name not in _IN_DIGEST_WHEN_SET or getattr(value, item.name) != default


def _plain(value: Any) -> Any:
    if isinstance(value, (Policy, SplitRule)):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value) if _counts(value, item)}
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
