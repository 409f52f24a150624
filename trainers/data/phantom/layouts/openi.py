"""Open-I's layout: a report as XML a study, and its images as PNG.

ecgen-radiology/1.xml
NLMCXR_png/CXR1_1_IM-0001-1001.png
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from trainers.data.phantom.files import save_image, save_text
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import Study, studies
from trainers.data.phantom.render import render
from trainers.data.phantom.sources import FINDINGS
from trainers.data.phantom.text import report

#: A MeSH term that the release indexes each finding with.
_TERMS = {
    "effusion": "Pleural Effusion/left/small",
    "cardiomegaly": "Cardiomegaly/mild",
    "consolidation": "Consolidation/lung/base",
    "edema": "Pulmonary Edema",
    "pneumothorax": "Pneumothorax/apex/left",
    "nodule": "Nodule/lung/upper lobe",
}


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder, a report a study; return how many images it has, and its label files."""
    count, label_files = 0, []
    for number, study in enumerate(studies(parameters), start=1):
        images = []
        for view in study.views:
            images.append(f"CXR{number}_{number}_IM-{number:04d}-{1001 if view == 'frontal' else 2001}")
            picture = render(study, view, px=parameters.px, strength=parameters.strength)
            save_image(folder / "NLMCXR_png" / f"{images[-1]}.png", picture.image)
        label_files.append(f"ecgen-radiology/{number}.xml")
        save_text(folder / label_files[-1], _xml(study, number, images))
        count += len(images)
    return count, tuple(label_files)


def _xml(study: Study, number: int, images: Sequence[str]) -> str:
    terms = [_TERMS[name] for name, value in zip(FINDINGS, study.labels, strict=True) if value == 1]
    terms = terms or ["normal" if study.no_finding else "No Indexing"]
    major = "".join(f"      <major>{escape(term)}</major>\n" for term in terms)
    figures = "".join(
        f'   <parentImage id="{image}">\n      <figureId>F{place}</figureId>\n'
        f"      <caption>Xray Chest PA and Lateral</caption>\n   </parentImage>\n"
        for place, image in enumerate(images, start=1)
    )
    findings = f'<AbstractText Label="FINDINGS">{escape(report(study))}</AbstractText>'
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<eCitation>\n   <uId id="CXR{number}"/>\n'
        f"   <MedlineCitation><Article><Abstract>{findings}</Abstract></Article></MedlineCitation>\n"
        f"   <MeSH>\n{major}   </MeSH>\n{figures}</eCitation>\n"
    )
