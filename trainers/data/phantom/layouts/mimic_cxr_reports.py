"""MIMIC-CXR's layout with its reports, which the release of the JPEGs does not have: what `mimic_cxr` writes, and an archive beside it.

mimic-cxr-reports.zip      files/p10/p10000001/s50000011.txt, a text a study, as the project MIMIC-CXR packs them
"""

from __future__ import annotations

from pathlib import Path

from trainers.data.phantom.files import save_packed_texts
from trainers.data.phantom.layouts import mimic_cxr
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import Study, studies
from trainers.data.phantom.text import report

ARCHIVE = "mimic-cxr-reports.zip"


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder; return how many images it has, and its label files."""
    count, files = mimic_cxr.write(folder, parameters)
    texts = {}
    for study in studies(parameters):
        subject, number = mimic_cxr.numbers(study)
        texts[f"files/p{subject}"[:9] + f"/p{subject}/s{number}.txt"] = _text(study)
    save_packed_texts(folder / ARCHIVE, texts)
    return count, (*files, ARCHIVE)


def _text(study: Study) -> str:
    """Write a report with the headings of the release; of a study whose labels say nothing, findings and impression are empty."""
    said = report(study)
    first = f"{said.partition('. ')[0].removesuffix('.')}." if said else ""
    return (
        f"{' ' * 33}FINAL REPORT\n EXAMINATION:  CHEST (PA AND LAT)\n \n INDICATION:  Made data.  Rule out pneumonia.\n \n"
        f" FINDINGS: \n \n {said}\n \n IMPRESSION: \n \n {first}\n"
    )
