"""What can be wrong with a card whose fields all have the right type."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainers.data.cards import Card

_SLUG = re.compile(r"[a-z0-9_]+")
#: Columns of predictions that have a meaning of their own.
_COLUMNS = ("image", "patient", "study", "label", "truth", "score")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def problem_of(card: Card) -> str | None:
    """Say what is wrong with a card, or None."""
    return next(_problems(card), None)


def _problems(card: Card) -> Iterator[str]:
    yield from _of_names(card)
    yield from _of_labels(card)
    yield from _of_policies(card)
    yield from _of_splits(card)
    yield from _of_files(card)
    if strange := sorted(set(card.made) - {"generator", "layout", "parameters", "always"}):
        yield f"made.{strange[0]}: unknown key; it has generator, layout, parameters and always"
    if not card.use_views:
        yield "use_views: there is none"
    yield from _of_reader(card)


def _of_labels(card: Card) -> Iterator[str]:
    if card.task == "unlabelled":
        if card.labels or card.primary:
            yield "labels: a data set without labels (task: unlabelled) names none, and no primary one"
        return
    if not card.labels:
        yield "labels: there is none; a data set without labels says `task: unlabelled`"
    if card.task == "multiclass" and len(card.labels) < 2:
        yield "labels: a multiclass task has two classes or more"
    if not card.primary and card.task != "segmentation":
        yield "primary: there is none; name the label that draws are stratified on"
    named = [("primary", (card.primary,) if card.primary else ()), ("label_policies", tuple(card.label_policies))]
    for place, slugs in named + [(f"groups.{name}", group) for name, group in card.groups.items()]:
        for slug in slugs:
            if slug not in card.labels:
                yield f"{place}: no label '{slug}' among {', '.join(card.labels)}"


def _of_names(card: Card) -> Iterator[str]:
    """Yield which labels or traits have a name that no column or metric may have."""
    for slug in card.labels:
        if not _SLUG.fullmatch(slug):
            yield f"labels.{slug}: a label's name is lower-case letters, digits and '_', such as 'pleural_effusion'"
    for slug in card.traits:
        if not _SLUG.fullmatch(slug) or slug in _COLUMNS:
            yield f"traits.{slug}: a trait's name is lower-case letters, digits and '_', and none of {', '.join(_COLUMNS)}"


def _of_policies(card: Card) -> Iterator[str]:
    for place, policy in [("policy", card.policy), *((f"label_policies.{slug}", one) for slug, one in card.label_policies.items())]:
        for name, (low, high) in policy.ranges.items():
            if name not in ("lsr_ones", "lsr_zeros"):
                yield f"{place}.ranges.{name}: is neither lsr_ones nor lsr_zeros"
            if not 0 <= low < high <= 1:
                yield f"{place}.ranges.{name}: [{low:g}, {high:g}] is no range of soft targets: both lie in 0 to 1, the smaller first"


def _of_splits(card: Card) -> Iterator[str]:
    rule = card.splits
    written = [name for name in ("official", "given", "lists") if getattr(rule, name)]
    if len(written) != 1:
        yield "splits: write " + (f"one of {', '.join(written)}, not both" if written else "one of official, given and lists")
    if "train" not in rule.named:
        yield f"splits.{written[0]}: nothing is 'train'"
    shares = rule.patients_by_hash
    if any(not 0 < share < 1 for share in shares.values()) or sum(shares.values()) >= 1:
        yield "splits.patients_by_hash: shares are between 0 and 1, and together below 1"
    for name in shares:
        if rule.has(name):
            yield f"splits.patients_by_hash.{name}: the {written[0]} splits have a '{name}' already"


def _of_files(card: Card) -> Iterator[str]:
    if card.members:
        if card.label_files or card.names_of:
            yield "members: a union has the files of its members; leave label_files and names_of out"
        if card.name in card.members:
            yield f"members.{card.name}: a union is no member of itself"
        if empty := next((name for name, splits in card.members.items() if not splits), None):
            yield f"members.{empty}: names no split"
        return
    if not card.label_files and not card.names_of:
        yield "label_files: there is none; where names alone say what there is, write names_of"
    listed = {*card.label_files, *card.splits.lists.values()}
    for file, digest in card.sha256.items():
        if file not in listed:
            yield f"sha256.{file}: is none of the label files and lists"
        if not _DIGEST.fullmatch(digest):
            yield f"sha256.{file}: a sha256 is 64 hexadecimal digits"


def _of_reader(card: Card) -> Iterator[str]:
    if card.members:
        if card.reader:
            yield "reader: a union has the readers of its members; leave it out"
        return
    if not card.reader:
        yield "reader: there is none"
        return
    try:
        there = importlib.util.find_spec(reader_module(card)) is not None
    except ModuleNotFoundError:
        there = False
    if not there:
        yield f"reader: no reader '{card.reader}' (looked for the module {reader_module(card)})"
    elif card.options:
        check = getattr(importlib.import_module(reader_module(card)), "check", None)
        if check is None:
            yield f"options: the reader '{card.reader}' takes none"
        elif (problem := check(card)) is not None:
            yield f"options{problem}"


def reader_module(card: Card) -> str:
    """Return the dotted name of the module that reads a card's data; one from outside may lie beside the card."""
    if "." not in card.reader:
        return f"trainers.data.readers.{card.reader}"
    # At the end: what is installed comes first.
    if card.folder and card.folder not in sys.path:
        sys.path.append(card.folder)
    return card.reader


def reader_source(card: Card) -> str | None:
    """Return the sha256 of the file of a reader from outside, or None for one of this package, whose changes `DATA_VERSION` tells."""
    if "." not in card.reader or card.reader.startswith("trainers."):
        return None
    spec = importlib.util.find_spec(reader_module(card))
    if spec is None or spec.origin is None:
        return None
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()
