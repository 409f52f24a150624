"""Who the patients are: anatomy, acquisition, severities and labels, each from a stream of its own.

Anatomy and acquisition never see the severities, and the severities never see them: the streams are keyed by what they are for, so that
nuisances are independent of findings by construction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import IntEnum
from statistics import NormalDist

import numpy as np

from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.sources import FINDINGS, SOURCES, Source

#: Severity of a study = PATIENT_PART * patient normal + STUDY_PART * study normal: a standard normal that persists in a patient.
PATIENT_PART, STUDY_PART = 0.8, 0.6
#: A reader is uncertain when the judged severity is nearer to the threshold than this.
UNCERTAIN_BAND = 0.12
#: Share of studies whose report does not mention the finding, whatever it is, by position in `FINDINGS`.
MISSING = (0.04, 0.08, 0.10, 0.06, 0.05, 0.12)
UNCERTAIN = -1.0
#: Findings whose size can be asked for.
SIZED = ("consolidation", "nodule")
#: Latent normals are clipped here, so that no body leaves its picture.
LIMIT = 2.2


class Stream(IntEnum):
    """What a random stream is for; the number is part of its key."""

    ANATOMY = 1
    SICKNESS = 2
    VISITS = 3
    ACQUISITION = 4
    COURSE = 5
    READER = 6
    PIXELS = 7
    VESSELS = 8


def stream(purpose: Stream, *key: int) -> np.random.Generator:
    """Return the generator of one purpose and key: the same numbers whatever else was drawn before."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((int(purpose), *key))))


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """How a patient is built: standard normals (clipped) and two facts, none of which knows of a finding."""

    width: float
    height: float
    heart: float
    heart_tilt: float
    ribs: float
    rib_phase: float
    rib_slope: float
    fat: float
    asymmetry: float
    dome_right: float
    dome_left: float
    apex: float
    aorta: float
    hilum: float
    vessels: float
    clavicles: float
    spine: float
    depth: float
    breast: float
    stomach: float
    female: bool
    age: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Acquisition:
    """How one picture was taken: standard normals (clipped) unless said, none of which knows of a finding."""

    tilt: float
    scale: float
    shift_x: float
    shift_y: float
    turn: float
    breath: float
    gamma: float
    gain: float
    window: float
    noise: float
    texture: float
    scatter: float
    #: Uniform numbers in [0, 1) that place borders, lines and the marker.
    border: tuple[float, ...]
    lines: tuple[float, ...]
    marker: float
    portable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesion:
    """How and where one finding of one study shows."""

    #: Standard normal; positive above the source's threshold.
    severity: float
    #: Severity less the threshold: what the picture shows grows with it.
    margin: float
    #: right | left | both, from the patient's point of view.
    side: str
    #: Uniform numbers in [0, 1) for place and shape, constant in a patient.
    place: tuple[float, ...]
    #: Share of a picture that it fills; 0 is as much as its margin makes of it.
    area: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One visit of one patient: everything that its pictures and labels are made from."""

    seed: int
    source: int
    patient: int
    number: int
    split: str
    anatomy: Anatomy
    lesions: tuple[Lesion, ...]
    #: What the label file says: 1, 0, -1 (uncertain) or NaN (not mentioned), by position in `FINDINGS`.
    labels: tuple[float, ...]
    #: True when the reader saw none of the six.
    no_finding: bool
    views: tuple[str, ...]

    @property
    def key(self) -> tuple[int, int, int, int]:
        """Return (seed, source, patient, study), which every stream of the study is keyed by."""
        return (self.seed, self.source, self.patient, self.number)

    @property
    def truth(self) -> tuple[bool, ...]:
        """Tell for each finding whether its severity is above the threshold."""
        return tuple(lesion.margin > 0 for lesion in self.lesions)


def patient_numbers(parameters: PhantomParameters) -> Iterator[tuple[int, str]]:
    """Yield each patient's number and split (`train` or `valid`), in order."""
    for index in range(parameters.patients_train + parameters.patients_valid):
        yield parameters.first_patient + index, "train" if index < parameters.patients_train else "valid"


def studies_of(parameters: PhantomParameters, patient: int, split: str) -> list[Study]:
    """Return the studies of one patient, oldest first.

    Those of `valid` are read by a consensus: no uncertain and no missing label, no misreading.
    """
    who = (parameters.seed, parameters.source, patient)
    source = SOURCES[parameters.source]
    anatomy = draw_anatomy(stream(Stream.ANATOMY, *who))
    sickness = stream(Stream.SICKNESS, *who)
    lasting = sickness.standard_normal(len(FINDINGS))
    places = sickness.random((len(FINDINGS), 12))
    count = 1 + int((stream(Stream.VISITS, *who).random(parameters.max_studies - 1) < 0.35).sum())
    found = []
    for number in range(1, count + 1):
        severities = PATIENT_PART * lasting + STUDY_PART * stream(Stream.COURSE, *who, number).standard_normal(len(FINDINGS))
        lesions = tuple(
            _lesion(float(severity), prevalence, place, parameters.lesion_areas if name in SIZED else ())
            for name, severity, prevalence, place in zip(FINDINGS, severities, source.prevalence, places, strict=True)
        )
        margins = np.array([lesion.margin for lesion in lesions])
        reader = stream(Stream.READER, *who, number)
        calls = consensus(margins) if split == "valid" else read(margins, source, reader)
        views = parameters.views
        if len(views) == 2 and stream(Stream.VISITS, *who, number).random() >= parameters.lateral_share:
            views = ("frontal",)
        mentioned = split == "valid" or reader.random(len(FINDINGS)) >= np.array(MISSING)
        labels = np.where(mentioned & parameters.labelled, calls, np.nan)
        found.append(
            Study(
                seed=parameters.seed,
                source=parameters.source,
                patient=patient,
                number=number,
                split=split,
                anatomy=anatomy,
                lesions=lesions,
                labels=tuple(labels.tolist()),
                no_finding=bool((calls == 0).all()) and parameters.labelled,
                views=views,
            )
        )
    return found


def studies(parameters: PhantomParameters) -> Iterator[Study]:
    """Yield every study of a made data set, by patient and number."""
    for patient, split in patient_numbers(parameters):
        yield from studies_of(parameters, patient, split)


def threshold(prevalence: float) -> float:
    """Return the severity above which a share `prevalence` of studies lies."""
    return NormalDist().inv_cdf(1 - prevalence)


def read(margins: np.ndarray, source: Source, reader: np.random.Generator) -> np.ndarray:
    """Return what a source's reader calls margins (6,): 1, 0 or -1; mild cases are misjudged and a few labels are simply wrong."""
    judged = margins + source.reader_sd * reader.standard_normal(margins.shape)
    calls = (judged > 0) != (reader.random(margins.shape) < source.flip)
    return np.where(np.abs(judged) < UNCERTAIN_BAND, UNCERTAIN, calls.astype(float))


def consensus(margins: np.ndarray) -> np.ndarray:
    """Return the calls of readers who never err: 1 above the threshold, else 0."""
    return (margins > 0).astype(float)


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """Draw how a patient is built."""
    names = [field.name for field in fields(Anatomy) if field.name not in ("female", "age")]
    normals = np.clip(rng.standard_normal(len(names)), -LIMIT, LIMIT)
    return Anatomy(
        **dict(zip(names, normals.tolist(), strict=True)),
        female=bool(rng.random() < 0.45),
        age=int(np.clip(round(60 + 17 * rng.standard_normal()), 18, 90)),
    )


def draw_acquisition(study: Study, view: str) -> Acquisition:
    """Draw how one view of a study was taken."""
    rng = stream(Stream.ACQUISITION, *study.key, view == "lateral")
    names = [field.name for field in fields(Acquisition) if field.name not in ("border", "lines", "marker", "portable")]
    normals = np.clip(rng.standard_normal(len(names)), -LIMIT, LIMIT)
    return Acquisition(
        **dict(zip(names, normals.tolist(), strict=True)),
        border=tuple(rng.random(4).tolist()),
        lines=tuple(rng.random(10).tolist()),
        marker=float(rng.random()),
        portable=bool(rng.random() < SOURCES[study.source].portable) and view == "frontal",
    )


def _lesion(severity: float, prevalence: float, place: np.ndarray, areas: tuple[float, ...]) -> Lesion:
    side = "both" if place[0] > 0.8 else "left" if place[0] > 0.4 else "right"
    area = areas[0] + (areas[1] - areas[0]) * float(place[4]) if areas else 0.0
    return Lesion(severity=severity, margin=severity - threshold(prevalence), side=side, place=tuple(place[1:].tolist()), area=area)
