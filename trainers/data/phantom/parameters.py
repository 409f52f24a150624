"""What a made data set is: everything that determines it, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from trainers.data.phantom.layout_names import CHEXPERT
from trainers.data.phantom.sources import SOURCES
from trainers.data.phantom.version import VERSION
from trainers.errors import DataError

VIEWS = ("frontal", "lateral")
MAX_PATIENTS = 10**9
#: Of a picture: more than this may not fit into a lung.
MAX_AREA = 0.1
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", tuple: "a list"}
#: Parameters that came later: at their defaults they are in no fingerprint, so that what was made before is the same data still.
_LATER = ("lesion_areas",)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomParameters:
    """Everything that determines a made data set.

    Two sets with the same `seed` and `source` and disjoint ranges of patient numbers have disjoint patients from one distribution:
    that is how a labelled set and an unlabelled pool are made.
    """

    seed: int = 0
    #: Which hospital: contrast, borders, label noise and prevalences differ by source.
    source: int = 0
    patients_train: int = 100
    patients_valid: int = 0
    #: Number of the first patient; the patients of `valid.csv` follow those of `train.csv`.
    first_patient: int = 1
    #: Side of the square images in pixels.
    px: int = 64
    #: Scales how visible the findings are; 0 hides them, and labels do not depend on it.
    strength: float = 1.0
    #: Least and largest share of a picture that a nodule or a consolidation fills; empty: as large as its severity makes it.
    lesion_areas: tuple[float, ...] = ()
    #: Views that a study may have. With both, every study has a frontal image and `lateral_share` of them a lateral one.
    views: tuple[str, ...] = ("frontal",)
    lateral_share: float = 0.3
    #: A patient has 1 to `max_studies` studies.
    max_studies: int = 3
    #: False leaves every label blank: a pool of images without labels.
    labelled: bool = True
    #: Write masks, boxes, reports and latents under `extras/`.
    extras: bool = False

    def __post_init__(self) -> None:
        """Check every value. Raises DataError naming the field, its value and what it may be."""
        self._settle_types()
        self._check("source", self.source in range(len(SOURCES)), f"one of 0 to {len(SOURCES) - 1}")
        self._check("seed", self.seed >= 0, "0 or more")
        self._check("patients_train", self.patients_train >= 0, "0 or more")
        self._check("patients_valid", self.patients_valid >= 0, "0 or more")
        last = self.first_patient + self.patients_train + self.patients_valid
        self._check("first_patient", self.first_patient >= 1 and last <= MAX_PATIENTS, f"from 1 to {MAX_PATIENTS} with all its patients")
        self._check("px", 32 <= self.px <= 2048, "32 to 2048")
        self._check("strength", 0 <= self.strength <= 4, "0 to 4")
        self._check("lesion_areas", _is_range(self.lesion_areas), "[least, largest] above 0 and up to 0.1, or []")
        self._check("lateral_share", 0 <= self.lateral_share <= 1, "0 to 1")
        self._check("max_studies", self.max_studies in range(1, 10), "1 to 9")
        self._check("views", self.views in (("frontal",), ("lateral",), VIEWS), "[frontal], [lateral] or [frontal, lateral]")

    def _settle_types(self) -> None:
        """Take values as a JSON or YAML reader hands them over: equal parameters must have equal fingerprints."""
        for field in fields(self):
            value, kind = getattr(self, field.name), type(field.default)
            if kind is float and type(value) is int:
                object.__setattr__(self, field.name, float(value))
            elif kind is tuple and isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
            elif type(value) is not kind:
                raise DataError(f"phantom parameter '{field.name}' is {value!r}: give {_KINDS[kind]}")

    def _check(self, name: str, holds: bool, allowed: str) -> None:
        if not holds:
            raise DataError(f"phantom parameter '{name}' is {getattr(self, name)!r}: give {allowed}")

    def fingerprint(self, layout: str = CHEXPERT) -> dict[str, Any]:
        """Return what names the data without writing it: generator, version, layout and every parameter, ready for JSON."""
        kept = [field for field in fields(self) if field.name not in _LATER or getattr(self, field.name) != field.default]
        values = {field.name: getattr(self, field.name) for field in kept}
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        named = {} if layout == CHEXPERT else {"layout": layout}
        return {"generator": "phantom", "version": VERSION, **named, "parameters": values}


def _is_range(areas: tuple[object, ...]) -> bool:
    numbers = [area for area in areas if isinstance(area, float)]
    return not areas or (len(numbers) == len(areas) == 2 and 0 < numbers[0] <= numbers[1] <= MAX_AREA)


def parameters_from(values: Mapping[str, Any]) -> PhantomParameters:
    """Build parameters from a mapping, as read from a card. Raises DataError on an unknown name."""
    known = [field.name for field in fields(PhantomParameters)]
    for name in values:
        if name not in known:
            raise DataError(f"unknown phantom parameter '{name}': the parameters are {', '.join(known)}")
    return PhantomParameters(**values)
