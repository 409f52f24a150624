"""What several layouts of made data share: one frontal picture a study, ids, and which training patients validate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import Study, draw_acquisition, studies
from trainers.data.phantom.render import Picture, render
from trainers.data.phantom.sources import FINDINGS

#: Of the training patients every so-manieth validates, the second first, where a layout has a validation split of its own.
_VALIDATES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontal:
    """The frontal picture of one study of a made data set."""

    study: Study
    picture: Picture
    #: `train`, `val` or `test`: the generator's own test patients are `test`.
    split: str

    @property
    def labels(self) -> Mapping[str, float]:
        """Return what the label file says of each finding: 1, 0, -1 or NaN."""
        return dict(zip(FINDINGS, self.study.labels, strict=True))

    @property
    def position(self) -> str:
        """Return how the patient stood to the beam: AP or PA."""
        return "AP" if draw_acquisition(self.study, "frontal").portable else "PA"

    @property
    def sex(self) -> str:
        """Return F or M."""
        return "F" if self.study.anatomy.female else "M"


def frontals(parameters: PhantomParameters, *, masks: bool = False) -> Iterator[Frontal]:
    """Yield the frontal picture of every study, by patient and number: for layouts of data sets that have no lateral views."""
    for study in studies(parameters):
        picture = render(study, "frontal", px=parameters.px, strength=parameters.strength, masks=masks)
        yield Frontal(study=study, picture=picture, split=split_of(study, parameters))


def split_of(study: Study, parameters: PhantomParameters) -> str:
    """Return `test` for the generator's test patients, `val` for an eighth of the others, else `train`."""
    if study.split != "train":
        return "test"
    return "val" if (study.patient - parameters.first_patient) % _VALIDATES == 1 else "train"


def made_id(study: Study, *, what: str = "", length: int = 32) -> str:
    """Return a hexadecimal id that says nothing of the study, the same each time."""
    return hashlib.sha256("|".join(map(str, (*study.key, what))).encode()).hexdigest()[:length]
