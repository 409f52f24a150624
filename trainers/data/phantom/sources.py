"""Hospitals: what differs between sources of made data, one shift of which is correlated with the labels."""

from __future__ import annotations

from dataclasses import dataclass

#: The six findings, in the order of every array of findings.
FINDINGS = ("effusion", "cardiomegaly", "consolidation", "edema", "pneumothorax", "nodule")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """How one hospital takes its pictures and reads them."""

    #: Share of studies with each finding, by position in `FINDINGS`: the label-correlated shift.
    prevalence: tuple[float, ...]
    #: Multiplies the slope of the film curve.
    contrast: float = 1.0
    #: Largest width of the black collimation border, as a share of the side.
    border: float = 0.0
    #: Standard deviation of a reader's judgement around the severity: mild cases are misread, clear ones are not.
    reader_sd: float = 0.08
    #: Share of labels that are simply wrong.
    flip: float = 0.002
    #: Multiplies the noise of the detector.
    noise: float = 1.0
    #: Share of portable (AP) pictures.
    portable: float = 0.4


SOURCES = (
    Source(prevalence=(0.30, 0.25, 0.20, 0.22, 0.18, 0.20)),
    Source(prevalence=(0.15, 0.15, 0.30, 0.15, 0.25, 0.30), contrast=1.25, border=0.06, reader_sd=0.16, flip=0.01, noise=0.7, portable=0.1),
    Source(prevalence=(0.30, 0.30, 0.15, 0.30, 0.15, 0.15), contrast=0.8, border=0.03, reader_sd=0.24, flip=0.02, noise=1.4, portable=0.8),
    Source(prevalence=(0.20, 0.28, 0.28, 0.18, 0.22, 0.15), contrast=1.1, border=0.10, reader_sd=0.12, flip=0.03, noise=1.1, portable=0.3),
    Source(prevalence=(0.25, 0.18, 0.18, 0.28, 0.30, 0.25), contrast=0.9, border=0.0, reader_sd=0.10, flip=0.005, noise=1.2, portable=0.5),
    Source(prevalence=(0.18, 0.22, 0.25, 0.20, 0.20, 0.28), contrast=1.0, border=0.08, reader_sd=0.20, flip=0.01, noise=0.9, portable=0.2),
)
