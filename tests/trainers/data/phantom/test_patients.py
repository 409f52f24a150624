"""Latents: what is drawn from what, and that nuisances know nothing of findings."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trainers.data.phantom.extras import nuisances
from trainers.data.phantom.parameters import PhantomParameters, parameters_from
from trainers.data.phantom.patients import MISSING, Study, read, studies, studies_of
from trainers.data.phantom.sources import FINDINGS, SOURCES
from trainers.data.phantom.version import VERSION
from trainers.errors import DataError

MANY = 4000


@pytest.fixture(scope="module")
def crowd() -> list[Study]:
    return list(studies(PhantomParameters(patients_train=MANY, max_studies=1)))


@pytest.fixture(scope="module")
def truths(crowd: list[Study]) -> np.ndarray:
    return np.array([study.truth for study in crowd])


def test_a_patient_depends_on_nothing_but_its_own_number() -> None:
    few = PhantomParameters(patients_train=5, patients_valid=5)
    many = PhantomParameters(patients_train=50, first_patient=3, px=96, strength=2.0)
    assert [s.lesions for s in studies_of(few, 4, "train")] == [s.lesions for s in studies_of(many, 4, "train")]
    assert studies_of(few, 4, "train")[0].anatomy == studies_of(many, 4, "train")[0].anatomy
    for other in (dataclasses.replace(few, seed=1), dataclasses.replace(few, source=1)):
        assert studies_of(few, 4, "train")[0].anatomy != studies_of(other, 4, "train")[0].anatomy
    assert studies_of(few, 4, "train")[0].anatomy != studies_of(few, 5, "train")[0].anatomy


def test_severity_is_a_standard_normal_that_persists_in_a_patient() -> None:
    twice = [found for patient in range(1, 3001) if len(found := studies_of(PhantomParameters(), patient, "train")) >= 2]
    first, second = (np.array([[lesion.severity for lesion in found[index].lesions] for found in twice]) for index in (0, 1))
    assert abs(first.mean()) < 0.05
    assert abs(first.std() - 1) < 0.05
    within = [np.corrcoef(first[:, i], second[:, i])[0, 1] for i in range(len(FINDINGS))]
    assert np.allclose(within, 0.64, atol=0.06)
    between = np.corrcoef(first, rowvar=False) - np.eye(len(FINDINGS))
    assert np.abs(between).max() < 0.1


def test_visits_are_one_to_three() -> None:
    counts = np.bincount([len(studies_of(PhantomParameters(), patient, "train")) for patient in range(1, 1001)])
    assert len(counts) == 4
    assert counts[1:].min() > 50
    assert {len(studies_of(PhantomParameters(max_studies=1), patient, "train")) for patient in range(1, 50)} == {1}


@pytest.mark.parametrize("source", range(len(SOURCES)))
def test_prevalences_are_those_of_the_source(source: int) -> None:
    found = np.array([s.truth for s in studies(PhantomParameters(patients_train=3000, max_studies=1, source=source))]).mean(axis=0)
    assert np.allclose(found, SOURCES[source].prevalence, atol=0.03)
    assert all(0.15 <= share <= 0.30 for share in SOURCES[source].prevalence)


def test_sources_differ_in_prevalence_so_that_a_pool_over_them_is_confounded() -> None:
    table = np.array([source.prevalence for source in SOURCES])
    assert (table.max(axis=0) - table.min(axis=0) >= 0.10).all()


def test_train_labels_are_uncertain_near_the_threshold_and_missing_at_random(crowd: list[Study], truths: np.ndarray) -> None:
    labels = np.array([study.labels for study in crowd])
    margins = np.array([[lesion.margin for lesion in study.lesions] for study in crowd])
    missing = np.isnan(labels)
    assert np.allclose(missing.mean(axis=0), MISSING, atol=0.02)
    for index in range(len(FINDINGS)):
        assert abs(truths[missing[:, index], index].mean() - truths[:, index].mean()) < 4 * 0.46 / missing[:, index].sum() ** 0.5
    uncertain = labels == -1
    assert (uncertain.mean(axis=0) > 0.03).all()
    assert (uncertain.mean(axis=0) < 0.12).all()
    assert np.abs(margins[uncertain]).max() < 0.6
    definite = ~uncertain & ~missing
    assert ((labels == 1) == truths)[definite].mean() > 0.98


def test_valid_labels_are_a_consensus() -> None:
    for study in studies(PhantomParameters(patients_train=0, patients_valid=300)):
        assert study.split == "valid"
        assert study.labels == tuple(map(float, study.truth))
        assert study.no_finding == (not any(study.truth))


def test_label_noise_is_the_source_s() -> None:
    margins = np.random.default_rng(0).standard_normal((4000, 6))
    wrong = []
    for source in (SOURCES[0], SOURCES[3]):
        calls = read(margins, source, np.random.default_rng(1))
        definite = calls >= 0
        wrong.append(float(((calls == 1) != (margins > 0))[definite].mean()))
    assert 0.001 < wrong[0] < 0.01
    assert 0.025 < wrong[1] < 0.06


def test_the_oracle_ranks_by_severity(crowd: list[Study]) -> None:
    for index in range(len(FINDINGS)):
        pairs = [(study.labels[index], study.lesions[index].severity) for study in crowd if study.labels[index] >= 0]
        label, severity = zip(*pairs, strict=True)
        assert roc_auc_score(label, severity) >= 0.97


def test_no_linear_probe_reads_a_finding_from_the_nuisances(crowd: list[Study], truths: np.ndarray) -> None:
    table = np.array([list(nuisances(study, "frontal").values()) for study in crowd])
    assert table.shape == (MANY, 50)
    for index in range(len(FINDINGS)):
        probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
        scores = cross_val_predict(probe, table, truths[:, index], cv=4, method="decision_function")
        assert abs(roc_auc_score(truths[:, index], scores) - 0.5) < 0.045


def mutual_information(codes: np.ndarray, labels: np.ndarray) -> float:
    """Plug-in estimate in nats of the information between integer codes and labels."""
    joint = np.histogram2d(codes, labels, bins=(codes.max() + 1, 2))[0] / len(codes)
    expected = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    there = joint > 0
    return float((joint[there] * np.log(joint[there] / expected[there])).sum())


def test_nuisances_and_findings_share_no_information(crowd: list[Study], truths: np.ndarray) -> None:
    """Every one of the 50 x 6 estimates lies where those of shuffled labels lie: no larger than their largest by half."""
    table = np.array([list(nuisances(study, "frontal").values()) for study in crowd])
    ranks = table.argsort(axis=0).argsort(axis=0)
    codes = ranks * 8 // MANY
    rng = np.random.default_rng(0)
    found, null = [], []
    for column in codes.T:
        for label in truths.T:
            found.append(mutual_information(column, label))
            null.append(mutual_information(column, rng.permutation(label)))
    assert max(found) < 1.5 * max(null)
    assert abs(np.mean(found) / np.mean(null) - 1) < 0.15


def test_the_estimate_sees_information_where_there_is_some(truths: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    leaky = truths[:, 0] + 4 * rng.standard_normal(MANY)
    codes = leaky.argsort().argsort() * 8 // MANY
    assert mutual_information(codes, truths[:, 0]) > 2 * mutual_information(codes, rng.permutation(truths[:, 0]))


def test_fingerprints_are_json_and_name_the_version() -> None:
    one = PhantomParameters(strength=1, views=["frontal", "lateral"])  # pyright: ignore[reportArgumentType]
    same = PhantomParameters(strength=1.0, views=("frontal", "lateral"))
    assert json.dumps(one.fingerprint(), sort_keys=True) == json.dumps(same.fingerprint(), sort_keys=True)
    assert one.fingerprint()["version"] == VERSION
    # A parameter that came later is named where it is set.
    names = {field.name for field in dataclasses.fields(PhantomParameters)}
    assert set(one.fingerprint()["parameters"]) == names - {"lesion_areas"}
    sized = PhantomParameters(lesion_areas=(0.02, 0.05))
    assert set(sized.fingerprint()["parameters"]) == names and sized.fingerprint()["parameters"]["lesion_areas"] == [0.02, 0.05]
    assert parameters_from(json.loads(json.dumps(sized.fingerprint()))["parameters"]) == sized
    assert parameters_from(json.loads(json.dumps(one.fingerprint()))["parameters"]) == one


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from(["seed", "source", "patients_train", "first_patient", "px", "max_studies"]),
    value=st.integers(1, 5),
)
def test_every_parameter_is_in_the_fingerprint(name: str, value: int) -> None:
    base = PhantomParameters(px=64, seed=9, source=0, patients_train=77, first_patient=12, max_studies=9)
    value = value + 40 if name == "px" else value
    assert dataclasses.replace(base, **{name: value}).fingerprint() != base.fingerprint()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": 6}, "phantom parameter 'source' is 6: give one of 0 to 5"),
        ({"px": 8}, "phantom parameter 'px' is 8: give 32 to 2048"),
        ({"px": "64"}, "phantom parameter 'px' is '64': give a whole number"),
        ({"labelled": 1}, "phantom parameter 'labelled' is 1: give true or false"),
        ({"views": ["oblique"]}, "phantom parameter 'views' is ('oblique',): give [frontal], [lateral] or [frontal, lateral]"),
        ({"strength": -1}, "phantom parameter 'strength' is -1.0: give 0 to 4"),
        ({"lateral_share": 2.0}, "phantom parameter 'lateral_share' is 2.0: give 0 to 1"),
        ({"lesion_areas": [0.03]}, "phantom parameter 'lesion_areas' is (0.03,): give [least, largest] above 0 and up to 0.1, or []"),
        (
            {"lesion_areas": [0.02, "x"]},
            "phantom parameter 'lesion_areas' is (0.02, 'x'): give [least, largest] above 0 and up to 0.1, or []",
        ),
        (
            {"lesion_areas": [0.05, 0.02]},
            "phantom parameter 'lesion_areas' is (0.05, 0.02): give [least, largest] above 0 and up to 0.1, or []",
        ),
        (
            {"lesion_areas": [0.02, 0.2]},
            "phantom parameter 'lesion_areas' is (0.02, 0.2): give [least, largest] above 0 and up to 0.1, or []",
        ),
        ({"max_studies": 0}, "phantom parameter 'max_studies' is 0: give 1 to 9"),
        ({"patients_train": -1}, "phantom parameter 'patients_train' is -1: give 0 or more"),
        ({"first_patient": 0}, "phantom parameter 'first_patient' is 0: give from 1 to 1000000000 with all its patients"),
        ({"sped": 1}, "unknown phantom parameter 'sped': the parameters are seed, source, patients_train, "),
    ],
)
def test_wrong_parameters_are_named(values: dict[str, object], message: str) -> None:
    with pytest.raises(DataError) as caught:
        parameters_from(values)
    assert str(caught.value).startswith(message)
