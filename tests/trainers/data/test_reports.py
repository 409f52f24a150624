"""Reports: read by the card's reader from archives, folders and XML, shut as images are, kept, and every fault named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest

from trainers.data import reports
from trainers.data.access import Access, Rows
from trainers.data.card_checks import problem_of
from trainers.data.cards import load_card
from trainers.data.index import read_index
from trainers.data.open import open_data
from trainers.data.phantom.layout import Made, write_made
from trainers.data.phantom.layouts.mimic_cxr_reports import ARCHIVE
from trainers.data.phantom.parameters import parameters_from
from trainers.data.phantom.text import NAMES
from trainers.data.readers import openi
from trainers.errors import DataError, SplitClosed

#: Slug of a card -> what a made report calls the finding.
SAID = {"pleural_effusion": "effusion", "cardiomegaly": "cardiomegaly", "consolidation": "consolidation", "edema": "edema"}
CARD = load_card("mimic_cxr_reports")


def make(name: str, root: Path) -> Made:
    card = load_card(name)
    parameters = parameters_from({**card.made["parameters"], "patients_train": 16, "patients_valid": 6, "px": 32})
    return write_made(root, parameters, card.made.get("layout", card.reader))


@pytest.fixture(scope="module")
def mimic(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make("mimic_cxr_reports", tmp_path_factory.mktemp("mimic"))


def opened(
    made: Made, cache: Path, *, name: str = "mimic_cxr_reports", is_open: Callable[[str], bool] = lambda split: True, **more: Any
) -> Access:
    return open_data({"card": name, "made": made.fingerprint, **more}, None, lambda place: made.root, cache, is_open)


def told(access: Access, rows: Rows) -> list[str]:
    found = access.reports(rows)
    assert found is not None
    return [text for text in found if text is not None]


def copied(made: Made, folder: Path) -> Path:
    """Copy the tables of a made set, without its images."""
    folder.mkdir()
    for file in made.root.glob("*.*"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def studies_of(root: Path) -> list[str]:
    return sorted(set(read_index(CARD, root).studies.tolist()))


@pytest.mark.parametrize("name", ["mimic_cxr_reports", "openi"])
def test_a_report_says_what_the_labels_of_its_image_do(tmp_path: Path, mimic: Made, name: str) -> None:
    made = mimic if name == "mimic_cxr_reports" else make(name, tmp_path / "made")
    access = opened(made, tmp_path / "cache", name=name)
    rows = access.rows("train")
    texts = told(access, rows)
    assert len(texts) == len(rows) and len(set(texts)) > 4
    named = 0
    for text, values in zip(texts, rows.labels, strict=True):
        sentences = text.lower().split(".")
        for slug, finding in SAID.items():
            if values[rows.label_names.index(slug)] == 1:
                assert any(NAMES[finding] in one and "no " not in one for one in sentences), (text, slug)
                named += 1
    assert named > 5
    # What a reader finds depends on the study and on nothing else.
    few = rows.take(np.arange(3))
    assert access.reports(few) == texts[:3]


def test_packed_and_unpacked_reports_are_the_same(tmp_path: Path, mimic: Made) -> None:
    root = copied(mimic, tmp_path / "unpacked")
    with ZipFile(root / ARCHIVE) as archive:
        archive.extractall(root)
    (root / ARCHIVE).unlink()
    pattern = "files/p*/p*/s*.txt"
    loose = replace(CARD, label_files=(*CARD.label_files[:-1], pattern), options={**CARD.options, "reports": pattern})
    assert problem_of(loose) is None
    from trainers.data.readers import mimic_cxr

    studies = studies_of(mimic.root)
    texts = mimic_cxr.reports(loose, root, studies)
    assert texts == mimic_cxr.reports(CARD, mimic.root, studies) and texts is not None and None not in texts
    assert mimic_cxr.reports(loose, root, ["p10999999/s1"]) == [None]
    assert mimic_cxr.reports(load_card("mimic_cxr"), mimic.root, studies) is None


def test_reports_of_a_split_that_is_shut_are_shut(tmp_path: Path, mimic: Made) -> None:
    access = opened(mimic, tmp_path, is_open=lambda split: split != "test")
    with pytest.raises(SplitClosed):
        access.rows("test")
    shut = opened(mimic, tmp_path).rows("test")
    with pytest.raises(SplitClosed, match=r"reports of image \d+ of card 'mimic_cxr_reports' belong to no split"):
        access.reports(shut)


def test_what_was_read_once_is_kept(tmp_path: Path, mimic: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    access = opened(mimic, tmp_path)
    rows = access.rows("train")
    first = access.reports(rows)
    (kept,) = (tmp_path / "reports").iterdir()

    def nothing(*given: object) -> None:
        raise AssertionError("read again")

    with monkeypatch.context() as patched:
        patched.setattr(reports, "_read", nothing)
        assert access.reports(rows) == first
        kept.write_text("{", encoding="utf-8")
        with pytest.raises(AssertionError, match="read again"):
            access.reports(rows)
    assert access.reports(rows) == first and kept.read_text(encoding="utf-8") != "{"


def test_an_archive_without_a_study_is_refused_or_goes_without(tmp_path: Path, mimic: Made) -> None:
    root = copied(mimic, tmp_path / "less")
    gone = studies_of(mimic.root)[0]
    with ZipFile(mimic.root / ARCHIVE) as whole, ZipFile(root / ARCHIVE, "w") as less:
        for name in whole.namelist():
            if not name.endswith(f"/{gone}.txt"):
                less.writestr(name, whole.read(name))
    (root / "files").symlink_to(mimic.root / "files")
    made = replace(mimic, root=root)
    access = opened(made, tmp_path / "cache")
    with pytest.raises(DataError, match=rf"lacks the reports of 1 of \d+ studies: {gone}: copy them again .*`missing: skip`"):
        access.reports(access.rows("train"))
    skipping = opened(made, tmp_path / "cache", missing="skip")
    rows = skipping.rows("train")
    found = skipping.reports(rows)
    assert found is not None
    assert [text is None for text in found] == [study == gone for study in rows.studies.tolist()] and None in found


def test_an_archive_that_is_none_and_one_that_is_absent_are_named(tmp_path: Path, mimic: Made) -> None:
    root = copied(mimic, tmp_path / "broken")
    (root / "files").symlink_to(mimic.root / "files")
    whole = (root / ARCHIVE).read_bytes()
    made = replace(mimic, root=root)
    for content in (b"no archive", whole[: len(whole) // 2]):
        (root / ARCHIVE).write_bytes(content)
        access = opened(made, tmp_path / "cache")
        with pytest.raises(DataError, match=rf"{ARCHIVE}: cannot be read as a ZIP archive .*copy it again from the release"):
            access.reports(access.rows("train"))
    (root / ARCHIVE).unlink()
    with pytest.raises(DataError, match=rf"data set 'mimic_cxr_reports' has no {ARCHIVE} in "):
        opened(made, tmp_path / "cache")


def test_another_archive_is_another_job(tmp_path: Path, mimic: Made) -> None:
    """The archive is a label file: a job that was planned with one does not run with another."""
    root = copied(mimic, tmp_path / "other")
    with pytest.raises(DataError, match=rf"{ARCHIVE} of data set 'mimic_cxr_reports' at .* has changed since the job was planned"):
        opened(replace(mimic, root=root), tmp_path, files={ARCHIVE: "0" * 64})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reports": "other.zip"}, "options.reports: 'other.zip' is none of label_files"),
        ({"reports": "mimic-cxr-2.0.0-split.csv*"}, "is neither mimic-cxr-reports.zip nor files/p"),
        ({"report": ARCHIVE}, "options.report: unknown key; it has views, test_labels and reports"),
    ],
)
def test_a_card_that_names_no_reports_is_refused(options: dict[str, Any], message: str) -> None:
    wrong = replace(CARD, options={"views": CARD.options["views"], **options})
    assert message in (problem_of(wrong) or "")


XML = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{n}"/><MedlineCitation><Article><Abstract>{parts}</Abstract></Article></MedlineCitation></eCitation>"""


def part(label: str, text: str) -> str:
    return f'<AbstractText Label="{label}">{text}</AbstractText>'


def test_findings_and_impression_of_xml_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "ecgen-radiology"
    folder.mkdir()
    card = load_card("openi")
    parts = {
        1: part("COMPARISON", "None.") + part("FINDINGS", " Heart\n large &amp; round. ") + part("IMPRESSION", "Large heart."),
        2: part("INDICATION", "Cough") + '<AbstractText Label="FINDINGS"/>' + part("IMPRESSION", "No  acute finding."),
        3: part("INDICATION", "Cough") + '<AbstractText Label="FINDINGS"/><AbstractText Label="IMPRESSION"> </AbstractText>',
    }
    for number, text in parts.items():
        (folder / f"{number}.xml").write_text(XML.format(n=number, parts=text), encoding="utf-8")
    assert openi.reports(card, tmp_path, ["CXR3", "CXR1", "CXR2", "CXR9"]) == [
        "",
        "FINDINGS: Heart large & round.\nIMPRESSION: Large heart.",
        "IMPRESSION: No acute finding.",
        None,
    ]
    (folder / "4.xml").write_text("FINDINGS: none", encoding="utf-8")
    with pytest.raises(DataError, match=r"4\.xml: is no XML .*copy it again from the release"):
        openi.reports(card, tmp_path, ["CXR1"])


def test_texts_are_utf_8_or_latin_1_with_one_kind_of_line_end() -> None:
    assert reports.decoded("\ufeffHerz groß.\r\nEnde\r".encode()) == "Herz groß.\nEnde\n"
    assert reports.decoded("Herz groß.".encode("latin-1")) == "Herz groß."


def test_of_a_union_those_members_have_reports_that_know_of_some(tmp_path: Path, mimic: Made) -> None:
    other = make("made_hospital_b", tmp_path / "other")
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "both.yaml").write_text(
        "name: both\ntitle: Both\ntask: unlabelled\nmembers: {mimic_cxr_reports: [train], made_hospital_b: [train]}\n"
        'splits: {official: {"": train}}\n',
        encoding="utf-8",
    )
    roots = {load_card("mimic_cxr_reports").place: mimic.root, load_card("made_hospital_b").place: other.root}
    made = {"generator": "union", "members": {"mimic_cxr_reports": mimic.fingerprint, "made_hospital_b": other.fingerprint}}
    source = {"card": "both", "made": made}
    access = open_data(source, None, lambda place: roots[place], tmp_path / "cache", lambda split: True, [tmp_path / "cards"])
    rows = access.rows("train")
    found = access.reports(rows)
    assert found is not None
    assert [text is not None for text in found] == [image.startswith("mimic_cxr_reports/") for image in rows.images.tolist()]
    assert 0 < sum(text is None for text in found) < len(found)
