"""The rows of one file, checked: ids, truths and scores that can be trusted, or an error that names the line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from orchestrator.errors import ReportError
from orchestrator.report.files.sheet import Sheet
from orchestrator.report.frames import Coded
from orchestrator.report.masks import COUNTS, MARK, fault_of

NEEDED = ("image", "label", "truth", "score")
#: What a table of masks has in place of label, truth and score.
NEEDED_OF_MASKS = ("image", "structure", *COUNTS)
#: What every column with a meaning of its own is for; any other column describes a unit and may be a subgroup.
MEANINGS: Mapping[str, str] = {
    "image": "a text that tells each scored unit apart (an image, or a study)",
    "patient": "who the unit is of; without it every unit counts as another patient",
    "study": "the examination that the unit belongs to",
    "label": "the finding, such as pneumonia; one row for each unit and finding",
    "truth": "1 where the finding is there and 0 where it is not; leave rows out whose truth is not known",
    "score": "the model's number, higher for more likely: a probability or a logit",
    "structure": "what was segmented, such as lung; one row for each image and structure",
    MARK: "how many pixels are in both masks",
    "predicted": "how many pixels are in the predicted mask",
    "true": "how many pixels are in the true mask",
    "hd95": "the 95th percentile of surface distances; empty where a mask is",
    "diagonal": "the diagonal of the image, in the unit of hd95",
    "arm": "the method; without it the file's name",
    "draw": "the draw of labelled patients that the model was trained on; the same name in two arms means the same patients",
    "seed": "the training seed, where runs differ in nothing else",
    "n_labeled": "how many labelled images the model was trained on",
    "fraction": "which share of the labels the model was trained on, above 0 and at most 1",
    "split": "test, or val for rows that thresholds are chosen on; without it all rows are test",
    "test_set": "the name of the test set, where there are several",
}
SPLITS = ("test", "val")
_ADVICE = {name: f"add it: {MEANINGS[name]}" for name in (*NEEDED, *NEEDED_OF_MASKS)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One file's rows as parallel columns."""

    sheet: Sheet
    image: Coded
    label: Coded
    #: truth and score; or what is known of two masks.
    values: Mapping[str, np.ndarray]
    #: patient and study where the file has them, and the columns that describe a unit.
    owners: Mapping[str, Coded]
    #: arm, draw, seed, split and test_set, where the file has them.
    words: Mapping[str, Coded]
    #: fraction and n_labeled, where the file has them; NaN where an entry is empty.
    amounts: Mapping[str, np.ndarray]

    @property
    def is_masks(self) -> bool:
        """Tell whether the file is of masks, not of scores."""
        return MARK in self.values


def read_block(sheet: Sheet) -> Block:
    """Read and check one file. Raises ReportError naming the line and what to do."""
    masks = MARK in sheet.columns
    sheet.require(NEEDED_OF_MASKS if masks else NEEDED, _ADVICE)
    words = {name: sheet.texts_or_blank(name) for name in ("arm", "draw", "seed") if name in sheet.columns}
    words |= {name: sheet.texts(name) for name in ("split", "test_set") if name in sheet.columns}
    traits = [name for name in sheet.columns if name not in MEANINGS]
    owners = {name: sheet.texts(name) for name in ("patient", "study") if name in sheet.columns}
    block = Block(
        sheet=sheet,
        image=sheet.texts("image"),
        label=sheet.texts("structure" if masks else "label"),
        values=_masks(sheet) if masks else {"truth": _truth(sheet), "score": _score(sheet)},
        owners=owners | {name: sheet.texts_or_blank(name) for name in traits},
        words=words,
        amounts={name: _amount(sheet, name) for name in ("fraction", "n_labeled") if name in sheet.columns},
    )
    _check_split(block)
    return block


def _masks(sheet: Sheet) -> dict[str, np.ndarray]:
    found = {name: sheet.numbers(name, MEANINGS[name]) for name in (*COUNTS, "hd95", "diagonal") if name in sheet.columns}
    if (fault := fault_of(found)) is not None:
        raise ReportError(f"{sheet.at(fault[0])}: {fault[1]}")
    return found


def _truth(sheet: Sheet) -> np.ndarray:
    found = sheet.numbers("truth", "0 or 1")
    bad = np.flatnonzero(~np.isin(found, (0.0, 1.0)))
    if len(bad):
        value = "empty" if np.isnan(found[bad[0]]) else f"{found[bad[0]]:g}"
        raise ReportError(
            f"{sheet.at(int(bad[0]))}: 'truth' is {value} ({len(bad):,} such rows); write 1 or 0, and leave out rows of unknown truth"
        )
    return found.astype(np.int8)


def _score(sheet: Sheet) -> np.ndarray:
    found = sheet.numbers("score", "a number")
    bad = np.flatnonzero(~np.isfinite(found))
    if len(bad):
        value = "NaN or empty" if np.isnan(found[bad[0]]) else f"{found[bad[0]]}"
        raise ReportError(
            f"{sheet.at(int(bad[0]))}: 'score' is {value} ({len(bad):,} such rows); no measure can rank it: look at what wrote the file"
        )
    return found


def _amount(sheet: Sheet, name: str) -> np.ndarray:
    found = sheet.numbers(name, MEANINGS[name])
    known = ~np.isnan(found)
    wrong = known & ~((found > 0) & (found <= 1)) if name == "fraction" else known & ~((found >= 1) & (found == np.round(found)))
    wrong |= np.isinf(found)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ReportError(f"{sheet.at(row)}: '{name}' is {found[row]:g}; it is {MEANINGS[name]}")
    return found


def _check_split(block: Block) -> None:
    split = block.words.get("split")
    strange = [text for text in split.texts.tolist() if text not in SPLITS] if split is not None else []
    if split is not None and strange:
        row = int(np.flatnonzero(split.texts[split.codes] == strange[0])[0])
        raise ReportError(f"{block.sheet.at(row)}: 'split' is '{strange[0]}'; write test, or val for rows that thresholds are chosen on")
