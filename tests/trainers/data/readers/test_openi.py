"""Open-I: labels from MeSH terms, views from figures or a table."""

from __future__ import annotations

import csv
import gzip
import tarfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.trainers.data.readers.made import placed
from tests.trainers.data.test_real_labels import released
from trainers.data.card_checks import problem_of
from trainers.data.cards import load_card
from trainers.errors import DataError

CARD = load_card("openi")
REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{n}"/><MeSH>{terms}</MeSH>{images}</eCitation>
"""


def report(root: Path, number: int, terms: str, figures: str = "F1 F2") -> None:
    major = "".join(f"<major>{term}</major>" for term in terms.split(";"))
    images = "".join(
        f'<parentImage id="CXR{number}_IM-{number:04d}-{place}001"><figureId>{figure}</figureId></parentImage>'
        for place, figure in enumerate(figures.split(), start=1)
    )
    (root / "ecgen-radiology").mkdir(exist_ok=True)
    (root / "ecgen-radiology" / f"{number}.xml").write_text(REPORT.format(n=number, terms=major, images=images), encoding="utf-8")


@pytest.mark.parametrize(
    ("terms", "positive"),
    [
        ("normal", ["no_finding"]),
        ("Opacity/lung/base/left", ["lung_opacity"]),
        ("Opacity/breast", []),
        ("Cardiac Shadow/enlarged/mild", ["cardiomegaly"]),
        ("Cardiac Shadow/obscured", []),
        ("Hydropneumothorax/right", ["pneumothorax", "pleural_effusion"]),
        ("Catheters, Indwelling/right; Fractures, Bone/ribs/healed", ["fracture", "support_devices"]),
        ("pulmonary  ATELECTASIS", ["atelectasis"]),
        ("Consolidation/lung; Technical Quality of Image Unsatisfactory", ["lung_opacity", "consolidation"]),
    ],
)
def test_terms_become_labels(tmp_path: Path, terms: str, positive: list[str]) -> None:
    report(tmp_path, 1, terms)
    rows = placed("openi", tmp_path).index()
    assert [name for name, value in zip(rows.label_names, rows.labels[0], strict=True) if value == 1] == positive
    assert not np.isnan(rows.labels).any()


@pytest.mark.parametrize("terms", ["No Indexing", "Technical Quality of Image Unsatisfactory ", "No Indexing;No Indexing"])
def test_a_report_that_says_nothing_has_no_labels(tmp_path: Path, terms: str) -> None:
    report(tmp_path, 1, terms)
    assert np.isnan(placed("openi", tmp_path).index().labels).all()


def test_figures_or_a_table_say_the_view(tmp_path: Path) -> None:
    report(tmp_path, 1, "normal", "F1 F2")
    report(tmp_path, 2, "normal", "F2")
    place = placed("openi", tmp_path)
    assert place.index().views.tolist() == ["frontal", "lateral", "lateral"]
    (tmp_path / "views.csv").write_text("uid,filename,projection\n1,1_IM-0001-1001.dcm.png,Lateral\n", encoding="utf-8")
    tabled = replace(place, card=replace(CARD, options={**CARD.options, "views": "views.csv"}))
    assert tabled.index().views.tolist() == ["lateral", "lateral", "lateral"]
    (tmp_path / "views.csv").write_text("uid,filename,projection\n1,1_IM-0001-1001.dcm.png,Oblique\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"views\.csv:2: projection is 'Oblique', and may be Frontal or Lateral"):
        tabled.index()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<eCitation>", r"1\.xml: is no XML"),
        ("", r"1\.xml: is no XML"),
        ("<eCitation><MeSH/></eCitation>", r"1\.xml: has no <uId id=\.\.\.>"),
        ('<eCitation><uId id="a"/><parentImage/></eCitation>', r"1\.xml: has an image without an id"),
        ('<eCitation><uId id="a"/><parentImage id="../a"/></eCitation>', r"1\.xml: has an image without an id"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><eCitation><uId id="&z;"/></eCitation>', r"1\.xml: is no XML"),
    ],
)
def test_a_wrong_report_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "ecgen-radiology").mkdir()
    (tmp_path / "ecgen-radiology" / "1.xml").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        placed("openi", tmp_path).index()


def test_terms_are_of_every_label_and_no_other() -> None:
    few = {"edema": ["Pulmonary Edema"]}
    assert "options.terms: names the MeSH terms of each label" in str(problem_of(replace(CARD, options={"terms": few})))
    assert "options.term: unknown key" in str(problem_of(replace(CARD, options={**CARD.options, "term": few})))


@pytest.mark.needs("label_files")
def test_the_real_reports_have_the_counts_that_are_published(tmp_path: Path) -> None:
    with tarfile.open(released("NLMCXR_reports.tgz")) as archive:
        archive.extractall(tmp_path, filter="data")
    place = placed("openi", tmp_path)
    assert len(list((tmp_path / "ecgen-radiology").glob("*.xml"))) == 3_955
    rows = place.index()
    # 104 reports are without an image.
    assert (len(rows), len(np.unique(rows.patients))) == (7_470, 3_851)
    positive = dict(zip(rows.label_names, (rows.labels == 1).sum(axis=0).tolist(), strict=True))
    assert (positive["no_finding"], positive["cardiomegaly"], positive["atelectasis"]) == (2_696, 693, 616)
    assert np.isnan(rows.labels).all(axis=1).sum() == 186
    with gzip.open(released("nlmcxr_tsne_pa.csv.gz"), "rt", encoding="utf-8") as file:
        looks = {f"{row['imageid']}.png": row["tsne-view"] for row in csv.DictReader(file)}
    agreed = Counter((looks[image], view) for image, view in zip(rows.images.tolist(), rows.views.tolist(), strict=True) if image in looks)
    # What the card says of views by figure.
    assert agreed == {("PA", "frontal"): 3_241, ("PA", "lateral"): 26, ("L", "frontal"): 448, ("L", "lateral"): 136}
