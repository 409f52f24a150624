"""Measures against scikit-learn, and units against sums over their images."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from trainers.api import Scores
from trainers.data.access import Rows
from trainers.parts.metrics import aggregate, auroc, log_loss, measure, slug


def _scores(
    labels: list[list[float]], logits: list[list[float]], studies: list[str] | None = None, patients: list[str] | None = None
) -> Scores:
    n, names = len(labels), ("a", "b")[: len(labels[0])]
    rows = Rows(
        card="made",
        images=np.array([f"i{k}" for k in range(n)]),
        patients=np.array(patients or [f"p{k}" for k in range(n)]),
        studies=np.array(studies or [f"s{k}" for k in range(n)]),
        views=np.array(["frontal"] * n),
        labels=np.array(labels, np.float32),
        label_names=names,
        position=np.arange(n),
    )
    return Scores(rows=rows, logits=np.array(logits, np.float32), labels=names)


@given(st.integers(2, 60), st.integers(1, 8), st.integers(0, 9999))
def test_auroc_with_ties_equals_scikit_learn(n: int, levels: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 2, n).astype(float)
    score = random.integers(0, levels, n).astype(np.float32)
    found = auroc(truth, score)
    if len(set(truth)) < 2:
        assert found is None
    else:
        assert found == pytest.approx(roc_auc_score(truth, score), abs=1e-12)


def test_auroc_leaves_out_unknown_truth() -> None:
    truth, score = np.array([1, np.nan, 0, 1, np.nan]), np.array([0.9, 5.0, 0.1, 0.05, -5.0])
    assert auroc(truth, score) == 0.5
    assert auroc(np.array([1.0, np.nan]), np.array([0.0, 1.0])) is None


@given(st.integers(0, 999))
def test_log_loss_equals_scikit_learn(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = np.array([0, 1, *random.integers(0, 2, 20)], float)
    logit = random.normal(size=22) * 4
    assert log_loss(truth, logit) == pytest.approx(sklearn_log_loss(truth, 1 / (1 + np.exp(-logit))), abs=1e-9)


def test_log_loss_of_extreme_logits_is_finite() -> None:
    assert log_loss(np.array([0.0, 1.0]), np.array([1e4, -1e4])) == pytest.approx(1e4)
    assert log_loss(np.array([np.nan]), np.array([1.0])) is None


def test_measure_leaves_out_what_it_cannot_estimate_and_counts_it() -> None:
    scores = _scores([[1, 0], [0, 0], [1, -1], [0, np.nan]], [[2, 1], [1, 2], [3, 3], [0, 4]])
    found = measure(scores, {"competition": ["a"], "both": ["a", "b"]})
    assert found["val/auroc/a"] == found["val/auroc_macro"] == found["val/auroc_competition"] == 1.0
    assert found["val/auroc_not_estimable"] == 1.0
    assert "val/auroc/b" not in found
    assert (found["val/auroc_both"], found["val/auroc_both_not_estimable"]) == (1.0, 1.0)
    assert found["val/auroc_competition_not_estimable"] == 0.0
    assert np.isfinite(found["val/loss"])


def test_missing_labels_are_negative_or_left_out_as_the_policy_says() -> None:
    scores = _scores([[1], [np.nan], [0], [-1]], [[1], [2], [0], [9]])
    assert measure(scores)["val/auroc/a"] == 0.5
    assert measure(scores, policies={"missing": "ignore"})["val/auroc/a"] == 1.0
    # Uncertain labels are never measured, whatever training makes of them.
    assert measure(scores, policies={"uncertain": "ones"})["val/auroc/a"] == 0.5


def test_measure_takes_a_prefix_and_the_labels_that_count() -> None:
    scores = _scores([[1, 1], [0, 0]], [[1, 0], [0, 1]])
    found = measure(scores, prefix="test/chexpert", labels=("a",))
    assert found["test/chexpert/auroc_macro"] == 1.0
    assert "test/chexpert/auroc/b" not in found


def test_slugs_are_plain() -> None:
    assert slug("Pleural Effusion") == "pleural_effusion"
    assert slug("Enlarged Cardiomediastinum (AP)") == "enlarged_cardiomediastinum_ap"


def test_a_study_is_scored_by_its_views_and_keeps_the_order_of_its_first_image() -> None:
    scores = _scores([[0], [1], [0], [-1]], [[0.5], [2.0], [-1.0], [3.0]], studies=["z", "a", "z", "a"], patients=["p", "p", "p", "p"])
    found = aggregate(scores, "study", "max_logit")
    assert found.rows.studies.tolist() == ["z", "a"]
    assert found.rows.images.tolist() == ["i0", "i1"]
    assert found.logits.tolist() == [[0.5], [3.0]]
    assert found.rows.labels.tolist() == [[0.0], [1.0]]
    assert aggregate(scores, "study", "first").logits.tolist() == [[0.5], [2.0]]
    assert aggregate(scores, "patient", "max_logit").logits.tolist() == [[3.0]]
    assert aggregate(scores, "image", "max_logit") is scores


def test_studies_of_two_patients_with_one_name_are_two() -> None:
    scores = _scores([[0], [1]], [[0.0], [1.0]], studies=["study1", "study1"])
    assert len(aggregate(scores, "study", "max_logit").rows) == 2


@given(st.lists(st.floats(-700, 700, width=32), min_size=1, max_size=6))
def test_the_mean_probability_is_that_of_the_images_even_where_they_saturate(logits: list[float]) -> None:
    scores = _scores([[1]] * len(logits), [[z] for z in logits], studies=["s"] * len(logits), patients=["p"] * len(logits))
    found = float(aggregate(scores, "study", "mean_prob").logits[0, 0])
    mean = np.mean(1 / (1 + np.exp(-np.array(logits, np.float64))))
    assert np.isfinite(found)
    assert 1 / (1 + np.exp(-np.float64(found))) == pytest.approx(mean, rel=1e-4, abs=1e-12)


def test_the_truth_of_a_unit_is_any_first_or_agreed() -> None:
    scores = _scores([[np.nan], [0], [-1], [0], [np.nan]], [[0.0]] * 5, studies=["s", "s", "t", "t", "u"], patients=["p"] * 5)
    assert aggregate(scores, "study", "first").rows.labels[:, 0].tolist()[:2] == [0.0, -1.0]
    assert np.isnan(aggregate(scores, "study", "first").rows.labels[2, 0])
    assert np.isnan(aggregate(scores, "study", "first", label="first").rows.labels[0, 0])
    with pytest.raises(ValueError, match="must_agree"):
        aggregate(scores, "study", "first", label="must_agree")
    for words in (("visit", "first", "any"), ("study", "last", "any"), ("study", "first", "all")):
        with pytest.raises(ValueError, match="there are"):
            aggregate(scores, *words)


def _classes(right: list[int], probabilities: list[list[float]], *, exclusive: bool = True) -> Scores:
    p = np.array(probabilities)
    truth = [[float(k == one) if one >= 0 else math.nan for k in range(2)] for one in right]
    return replace(_scores(truth, (np.log(p) - np.log1p(-p)).tolist()), exclusive=exclusive)


def test_classes_that_exclude_each_other_have_an_accuracy_and_the_loss_of_their_softmax() -> None:
    right, p = [0, 1, 1, 0, -1], [[0.9, 0.1], [0.3, 0.7], [0.6, 0.4], [0.5, 0.5], [0.2, 0.8]]
    found = measure(_classes(right, p), one_class=True, policies={"missing": "zeros"})
    known = [(k, one) for k, one in zip(right, p, strict=True) if k >= 0]
    assert found["val/accuracy"] == accuracy_score([k for k, _ in known], [int(one[1] > one[0]) for _, one in known]) == 0.75
    assert found["val/loss"] == pytest.approx(sklearn_log_loss([k for k, _ in known], [one for _, one in known]), abs=1e-6)


def test_labels_that_stand_alone_keep_their_loss_and_have_an_accuracy_only_on_a_card_of_classes() -> None:
    scores = _classes([0, 1, 1], [[0.9, 0.2], [0.3, 0.8], [0.6, 0.4]], exclusive=False)
    plain, classes = measure(scores), measure(scores, one_class=True)
    assert "val/accuracy" not in plain
    assert classes == {**plain, "val/accuracy": pytest.approx(2 / 3)}


def test_there_is_no_class_to_find_where_one_is_not_scored_or_none_is_known() -> None:
    scores = _classes([0, 1], [[0.9, 0.1], [0.3, 0.7]])
    assert "val/accuracy" not in measure(scores, one_class=True, labels=("a",))
    assert "val/accuracy" not in measure(_classes([-1, -1], [[0.9, 0.1], [0.3, 0.7]]), one_class=True, policies={"missing": "ignore"})


def test_units_of_a_softmax_stay_one() -> None:
    scores = replace(_scores([[1, 0], [1, 0]], [[1, -1], [2, -2]], studies=["s", "s"], patients=["p", "p"]), exclusive=True)
    assert aggregate(scores, "study", "mean_prob").exclusive
