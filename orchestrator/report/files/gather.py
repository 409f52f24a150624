"""Rows of several files gathered into runs: which arm, how many labels, which draw, which test set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator.errors import ReportError
from orchestrator.report import masks
from orchestrator.report.design import NO_REPLICATE
from orchestrator.report.files.blocks import Block
from orchestrator.report.frames import Coded, twice, two_values
from orchestrator.report.masks import Masks
from orchestrator.report.predictions import Predictions, matrices

#: What the one test set is called where no column names it.
TEST_SET = "test"
#: The number of labels where no column says it.
ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Key:
    """What tells runs apart."""

    test_set: str
    arm: str
    size: str
    replicate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """One run: its rows of either split, and where they are from."""

    key: Key
    test: Predictions | Masks
    validation: Predictions | Masks | None
    #: The name of its draw, which the same draw of another arm shares; None without one.
    draw: str | None
    n_labeled: int | None
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """Rows of one file that belong to one run."""

    block: Block
    rows: np.ndarray
    test_set: str
    arm: str
    size: str
    #: Texts of draw and seed; None where the file has no such column or an empty entry.
    draw: str | None
    seed: str | None
    split: str
    stem: str


def gather(blocks: Sequence[tuple[Path, Block]]) -> list[Gathered]:
    """Gather the rows of some files into runs, in an order that the order of the files does not change.

    Raises ReportError on a unit that is scored twice for a label, that changes its patient, or that is in validation and test.
    """
    stems = _stems([path for path, _ in blocks])
    pieces = [piece for path, block in blocks for piece in _pieces(block, stems[path])]
    several = _files_an_arm(pieces)
    grouped: dict[Key, list[_Piece]] = {}
    for piece in sorted(pieces, key=lambda one: one.stem):
        grouped.setdefault(_key(piece, several), []).append(piece)
    return [_gathered(key, grouped[key]) for key in sorted(grouped)]


def _stems(paths: Sequence[Path]) -> dict[Path, str]:
    """Name files as short as tells them apart. Raises ReportError when one is named twice."""
    again = [path for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if again:
        raise ReportError(f"{again[0].name}: is named twice; name it once")
    plain = {path: path.name.removesuffix(".gz").rpartition(".")[0] or path.name for path in paths}
    shared = {name for name, count in Counter(plain.values()).items() if count > 1}
    return {path: f"{path.resolve().parent.name}/{name}" if name in shared else name for path, name in plain.items()}


def _pieces(block: Block, stem: str) -> Iterator[_Piece]:
    """Part the rows of a file by everything that tells runs apart."""
    rows = block.sheet.rows
    names = [name for name in ("test_set", "arm", "draw", "seed", "split") if name in block.words]
    keys = [block.words[name].codes for name in names]
    sized = next((name for name in ("fraction", "n_labeled") if name in block.amounts), None)
    if sized is not None:
        keys.append(np.unique(block.amounts[sized], return_inverse=True)[1])
    code = np.zeros(rows, np.int64)
    for one in keys:
        code = np.unique(code * (int(one.max(initial=0)) + 1) + one, return_inverse=True)[1]
    order = np.argsort(code, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(code[order])) + 1):
        first = int(part[0])
        word = {name: str(block.words[name].texts[block.words[name].codes[first]]) for name in names}
        amount = float("nan") if sized is None else float(block.amounts[sized][first])
        yield _Piece(
            block=block,
            rows=part,
            test_set=word.get("test_set", TEST_SET),
            arm=word.get("arm") or stem,
            size=ALL if np.isnan(amount) else f"{sized}={amount:g}",
            draw=word.get("draw") or None,
            seed=word.get("seed") or None,
            split=word.get("split", "test"),
            stem=stem,
        )


def _files_an_arm(pieces: Sequence[_Piece]) -> dict[tuple[str, str, str], set[str]]:
    """Return the files that hold test rows of an arm and name no replicate: more than one, and each is a replicate."""
    found: dict[tuple[str, str, str], set[str]] = {}
    for one in pieces:
        if one.draw is None and one.seed is None and one.split == "test":
            found.setdefault((one.test_set, one.arm, one.size), set()).add(one.stem)
    return found


def _key(piece: _Piece, several: Mapping[tuple[str, str, str], set[str]]) -> Key:
    named = [f"{what} {text}" for what, text in (("draw", piece.draw), ("seed", piece.seed)) if text is not None]
    if not named and len(several.get((piece.test_set, piece.arm, piece.size), ())) > 1:
        named = [f"file {piece.stem}"]
    return Key(test_set=piece.test_set, arm=piece.arm, size=piece.size, replicate=", ".join(named) or NO_REPLICATE)


def _gathered(key: Key, pieces: Sequence[_Piece]) -> Gathered:
    name = f"{key.arm}, {key.replicate}" if key.replicate != NO_REPLICATE else key.arm
    parts = {split: [one for one in pieces if one.split == split] for split in ("test", "val")}
    if not parts["test"]:
        at = pieces[0].block.sheet.name
        raise ReportError(f"{at}: {name} has rows of split val and none of split test; give both the same arm and draw")
    found = {split: _matrices(of_split, name) for split, of_split in parts.items() if of_split}
    shared = np.intersect1d(found["test"].units.astype(str), found["val"].units.astype(str)) if "val" in found else []
    if len(shared):
        raise ReportError(f"{name}: unit '{shared[0]}' is in split val and in split test; thresholds must not be chosen on test rows")
    draw = pieces[0].draw
    return Gathered(
        key=key,
        test=found["test"],
        validation=found.get("val"),
        draw=None if draw is None else f"{draw}@{key.size}",
        n_labeled=_n_labeled(pieces, name),
        files=tuple(sorted({one.block.sheet.name for one in pieces})),
    )


def _n_labeled(pieces: Sequence[_Piece], name: str) -> int | None:
    counts = np.concatenate([one.block.amounts["n_labeled"][one.rows] for one in pieces if "n_labeled" in one.block.amounts] or [[]])
    known = np.unique(counts[~np.isnan(counts)])
    if len(known) > 1:
        raise ReportError(f"{name}: 'n_labeled' is {known[0]:g} in one row and {known[1]:g} in another; one run was trained on one number")
    return int(known[0]) if len(known) else None


def _matrices(pieces: Sequence[_Piece], name: str) -> Predictions | Masks:
    image, label = (_joined(pieces, [getattr(one.block, what) for one in pieces]) for what in ("image", "label"))
    if (rows := twice(image, label)) is not None:
        first, second = (_at(pieces, row) for row in rows)
        raise ReportError(
            f"{second}: unit '{image.texts[image.codes[rows[1]]]}' is scored again for '{label.texts[label.codes[rows[1]]]}' in {name} "
            f"(first in {first}); keep one of them, or tell runs apart by a column 'arm' or 'draw'"
        )
    owners = _owners(pieces)
    for what, column in owners.items():
        if (rows := two_values(image, column)) is not None:
            values = [column.texts[column.codes[row]] for row in rows]
            raise ReportError(
                f"{_at(pieces, rows[1])}: '{what}' of unit '{image.texts[image.codes[rows[0]]]}' is '{values[1]}' and was '{values[0]}' "
                f"in {_at(pieces, rows[0])}; a unit has one {what}"
            )
    plain = {what: owners.get(what, image) for what in ("patient", "study")}
    traits = {what: column for what, column in owners.items() if what not in plain}
    values = {what: np.concatenate([one.block.values[what][one.rows] for one in pieces]) for what in _shared_values(pieces, name)}
    if pieces[0].block.is_masks:
        return masks.matrices(image, label, values, plain, name, traits)
    return matrices(image, label, values["truth"], values["score"], plain, traits)


def _shared_values(pieces: Sequence[_Piece], name: str) -> list[str]:
    """Return what all files of a run hold. Raises ReportError when they do not hold the same."""
    first = sorted(pieces[0].block.values)
    for one in pieces:
        if sorted(one.block.values) != first:
            raise ReportError(f"{one.block.sheet.name}: holds other columns than {pieces[0].block.sheet.name}, and both are of {name}")
    return first


def _owners(pieces: Sequence[_Piece]) -> dict[str, Coded]:
    """Return what describes a unit; a column that only some files have is blank in the others, a patient is not."""
    names = sorted({name for one in pieces for name in one.block.owners})
    for what in ("patient", "study"):
        lacking = [one for one in pieces if what not in one.block.owners]
        if what in names and lacking:
            raise ReportError(f"{lacking[0].block.sheet.name}: has no column '{what}', and another file of the same run has; add it")
    return {name: _joined(pieces, [one.block.owners.get(name) or _blank(one) for one in pieces]) for name in names}


def _blank(piece: _Piece) -> Coded:
    return Coded(texts=np.array([""], dtype=object), codes=np.zeros(piece.block.sheet.rows, np.int64))


def _joined(pieces: Sequence[_Piece], columns: Sequence[Coded]) -> Coded:
    """Join a column over files."""
    parts = [one.take(piece.rows) for piece, one in zip(pieces, columns, strict=True)]
    if len(parts) == 1:
        return parts[0]
    texts = sorted({text for one in parts for text in one.texts.tolist()})
    place = {text: index for index, text in enumerate(texts)}
    codes = np.concatenate([np.array([place[text] for text in one.texts.tolist()], np.int64)[one.codes] for one in parts])
    return Coded(texts=np.array(texts, dtype=object), codes=codes)


def _at(pieces: Sequence[_Piece], row: int) -> str:
    for one in pieces:
        if row < len(one.rows):
            return one.block.sheet.at(int(one.rows[row]))
        row -= len(one.rows)
    raise IndexError(row)
