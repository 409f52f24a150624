"""Open-I's Indiana set: reports as XML, images as PNG.

ecgen-radiology/1.xml                       MeSH terms, and the images of a report by id
NLMCXR_png/CXR1_1_IM-0001-3001.png

A report has sections COMPARISON, INDICATION, FINDINGS and IMPRESSION (`AbstractText`), each of which may be empty.

Labels come of the major MeSH terms by a table in the card: `Opacity/lung` fits every term `Opacity` that is qualified by `lung`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from trainers.data.cards import Card
from trainers.data.tables import Collected, read_table
from trainers.errors import DataError

if TYPE_CHECKING:
    from trainers.data.access import Rows

_IMAGES = "NLMCXR_png"
_OPTIONS = ("terms", "silent", "views")
#: Which figure of a report is which view where nothing says more: the first is frontal.
BY_FIGURE = "figure"
_FRONTAL_FIGURE = "F1"
#: Sections of a report that say what is to be seen.
_SECTIONS = ("FINDINGS", "IMPRESSION")
_PROJECTIONS = {"Frontal": "frontal", "Lateral": "lateral"}


@dataclass(frozen=True, slots=True)
class _Term:
    """A MeSH term: its head, and what qualifies it, in lower case."""

    head: str
    qualifiers: frozenset[str]

    @classmethod
    def of(cls, text: str) -> _Term:
        head, *qualifiers = (" ".join(part.split()).lower() for part in text.split("/"))
        return cls(head, frozenset(qualifiers))

    def fits(self, term: _Term) -> bool:
        """Tell whether a term of a report is this one, qualified so or more closely."""
        return self.head == term.head and self.qualifiers <= term.qualifiers


def base(card: Card, root: Path) -> Path:
    """Return the root."""
    return root


def check(card: Card) -> str | None:
    """Say what is wrong with a card's options, or None."""
    if strange := next(iter(set(card.options) - set(_OPTIONS)), None):
        return f".{strange}: unknown key; there are {', '.join(_OPTIONS)}"
    terms = card.options.get("terms")
    if not isinstance(terms, Mapping) or set(terms) != set(card.labels):
        return ".terms: names the MeSH terms of each label of the card, and of no other, such as {edema: [Pulmonary Edema]}"
    return None


def read(card: Card, root: Path) -> Rows:
    """Return one row an image that a report names. Raises DataError naming the file."""
    found, views = Collected(card), _views(card, root)
    wanted = [[_Term.of(text) for text in card.options["terms"][slug]] for slug in card.labels]
    silent = [_Term.of(text) for text in card.options.get("silent", ())]
    for file in _report_files(card, root):
        report = _parsed(file)
        labels = _labels([_Term.of(text) for text in _texts(report, "major")], wanted, silent)
        patient = _report_id(report, file)
        for image, figure in _images(report, file):
            found.add(
                f"{image}.png",
                patient=patient,
                study=patient,
                view=views.get(f"{image}.png") or ("frontal" if figure == _FRONTAL_FIGURE else "lateral"),
                labels=labels,
                place=str(file),
            )
    return found.rows()


def files(card: Card, base: Path, images: Sequence[str]) -> list[Path]:
    """Return the file of each image."""
    return [base / _IMAGES / image for image in images]


def reports(card: Card, base: Path, studies: Sequence[str]) -> list[str | None]:
    """Return the findings and the impression of each report, empty where both are. Raises DataError naming the file."""
    found: dict[str, str] = {}
    for file in _report_files(card, base):
        report = _parsed(file)
        parts = {
            (node.get("Label") or "").strip().upper(): " ".join("".join(node.itertext()).split()) for node in report.iter("AbstractText")
        }
        found[_report_id(report, file)] = "\n".join(f"{name}: {parts[name]}" for name in _SECTIONS if parts.get(name))
    return [found.get(study) for study in studies]


def _report_files(card: Card, root: Path) -> list[Path]:
    return sorted(path for pattern in card.label_files for path in root.glob(pattern) if path.suffix == ".xml")


def _labels(terms: list[_Term], wanted: list[list[_Term]], silent: list[_Term]) -> list[float]:
    """Return 1 for labels that a term fits, else 0; NaN for all where nothing is said of what is to be seen."""
    if not any(not any(one.fits(term) for one in silent) for term in terms):
        return [math.nan] * len(wanted)
    return [float(any(one.fits(term) for one in ones for term in terms)) for ones in wanted]


def _parsed(file: Path) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(file.read_bytes())
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}): check the disk and the permissions") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{file}: is no XML ({error}): copy it again from the release") from error


def _texts(report: ElementTree.Element, tag: str) -> Iterator[str]:
    for node in report.iter(tag):
        if node.text and node.text.strip():
            yield node.text.strip()


def _report_id(report: ElementTree.Element, file: Path) -> str:
    node = report.find("uId")
    name = "" if node is None else node.get("id", "").strip()
    if not name:
        raise DataError(f"{file}: has no <uId id=...>, which names the report: copy it again from the release")
    return name


def _images(report: ElementTree.Element, file: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, figure) of each image."""
    for node in report.iter("parentImage"):
        name = node.get("id", "").strip()
        if not name or "/" in name:
            raise DataError(f"{file}: has an image without an id: copy it again from the release")
        yield name, (node.findtext("figureId") or "").strip()


def _views(card: Card, root: Path) -> dict[str, str]:
    """Return the view of each image that a file of projections names (columns filename and projection, as on Kaggle)."""
    name = card.options.get("views", BY_FIGURE)
    if name == BY_FIGURE:
        return {}
    found: dict[str, str] = {}
    for line in read_table(card, root / name, ("filename", "projection")):
        projection = line.text("projection")
        if projection not in _PROJECTIONS:
            raise DataError(f"{line.place}: projection is '{projection}', and may be {' or '.join(_PROJECTIONS)}")
        image = line.text("filename").removesuffix(".png").removesuffix(".dcm").removeprefix("CXR")
        found[f"CXR{image}.png"] = _PROJECTIONS[projection]
    return found
