"""What a run of the mirror should hold: names that MLflow takes, and how many of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import MAX_ENTITY_KEY_LENGTH, _validate_metric_name, _validate_param_name

from orchestrator.mirror.entries import SERIES_KEYS, Entry, KeyBudget, Point, clean_key, finite, table

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=300) | st.text("ab/._- :@[]", max_size=30)


@given(NAMES)
def test_mlflow_takes_every_name(name: str) -> None:
    clean = clean_key(name)
    _validate_metric_name(clean)
    _validate_param_name(clean)
    assert 0 < len(clean) < MAX_ENTITY_KEY_LENGTH
    assert clean_key(clean) == clean


@given(NAMES, NAMES)
def test_names_stay_apart(one: str, other: str) -> None:
    assert (clean_key(one) == clean_key(other)) == (one == other) or clean_key(one) == other or clean_key(other) == one


def test_good_names_stay_as_they_are() -> None:
    for name in ("train/loss", "test/chexpert official/auroc/pleural_effusion", "lr", "test/x:study:max_logit/auroc_macro"):
        assert clean_key(name) == name


@given(st.dictionaries(st.sampled_from("abc"), st.floats() | st.none() | st.booleans() | st.text() | st.integers(-10, 10)))
def test_only_finite_numbers_are_sent(metrics: dict[str, object]) -> None:
    found = finite(metrics)
    assert all(math.isfinite(value) for value in found.values())
    expected = {
        key for key, value in metrics.items() if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
    assert set(found) == expected


KEYS = st.sets(
    st.sampled_from([f"val/{name}" for name in "abcdef"] + [f"val/{family}/{index}" for family in ("x", "y") for index in range(40)])
)


@given(st.lists(KEYS, max_size=8), st.integers(0, 60))
def test_a_budget_is_never_exceeded_and_takes_nothing_back(batches: list[set[str]], limit: int) -> None:
    budget = KeyBudget(limit)
    decided: dict[str, bool] = {}
    for batch in batches:
        admitted = budget.admit(batch)
        assert admitted <= batch
        for key in batch & decided.keys():
            assert decided[key] <= (key in admitted)
        decided |= {key: key in admitted for key in batch}
    assert len(budget.admitted) <= limit


def test_headlines_come_first_and_a_family_comes_whole() -> None:
    budget = KeyBudget(SERIES_KEYS)
    many = {f"val/auroc/{index}" for index in range(SERIES_KEYS)}
    assert budget.admit(many | {"val/loss"}) == {"val/loss"}
    assert budget.admit({"val/auroc/1"}) == set()
    few = {f"val/auprc/{index}" for index in range(14)}
    assert budget.admit(few) == few


def test_a_digest_tells_any_change() -> None:
    first = Entry(key="j", name="n", status="RUNNING", started=1, ended=None)
    entries = [
        first,
        replace(first, status="FINISHED"),
        replace(first, params={"a": "1"}),
        replace(first, tags={"a": "1"}),
        replace(first, points=(Point("a", 1, 0.1, 2),)),
        replace(first, points=(Point("a", 1, 0.2, 2),)),
        replace(first, finals={"a": 1.0}),
        replace(first, artifacts={"a": b"1"}),
    ]
    assert len({entry.digest() for entry in entries}) == len(entries)
    assert replace(first, first_tags={"git_sha": "x"}).digest() == first.digest()


def test_a_table_is_what_the_ui_shows() -> None:
    assert json.loads(table(["a", "b"], [[1, "x"]])) == {"columns": ["a", "b"], "data": [[1, "x"]]}
