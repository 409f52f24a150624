"""The JSON Schema says what the checks check, and the file that editors read is current."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from jobs.catalog import find_trainers
from jobs.spec import pretty_json
from orchestrator.documents import read_document
from orchestrator.grammar.keys import SWEEP
from orchestrator.schema import sweep_schema
from tests.golden.trainers import CATALOG

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml")) + sorted((ROOT / "tests" / "golden" / "sweeps").glob("*.yaml"))
TABLE = yaml.safe_load((Path(__file__).parent / "bad_sweeps" / "loading.yaml").read_text(encoding="utf-8"))
#: Faults of form, which a schema can see: every bad sweep whose message says so.
FORM = ("unknown key", "expects ", "is missing")
#: And what a schema cannot say of them: what depends on another key or on a preset, and that JSON takes 16.0 for a whole number.
BEYOND = {
    "no phases",
    "a phase without a trainer",
    "a fraction for a whole number",
    "a shared axis that no trainer has",
    "draws of no size",
    "a pick without a metric",
    "a sample setting of an unknown key",
    "a published value that is no number",
    "a source without a value",
}
FORMAL = [case for case in TABLE if any(word in case["error"].split("\n")[0] for word in FORM) and case["name"] != "not a mapping"]


def problems(catalog: Any, content: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(sweep_schema(catalog)).iter_errors(content)]


def test_the_file_is_current() -> None:
    catalog = {name: declaration for name, declaration in find_trainers().items() if declaration.package.startswith("trainers.")}
    assert (ROOT / "sweeps" / "schema.json").read_text(encoding="utf-8") == pretty_json(sweep_schema(catalog)), (
        "type: python -m orchestrator.schema > sweeps/schema.json"
    )


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(sweep_schema(CATALOG))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: f"{path.parent.parent.name}/{path.stem}")
def test_good_sweeps_fit(path: Path) -> None:
    catalog = CATALOG if "golden" in path.parts else find_trainers()
    assert problems(catalog, read_document(path).plain()) == []


@pytest.mark.parametrize("case", FORMAL, ids=[case["name"] for case in FORMAL])
def test_faults_of_form_do_not_fit(case: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(case["sweep"], encoding="utf-8")
    found = problems(CATALOG, read_document(tmp_path / "bad.yaml").plain())
    assert (found == []) == (case["name"] in BEYOND)


def test_every_key_says_what_it_is_for() -> None:
    schema = sweep_schema(CATALOG)
    phase = schema["properties"]["phases"]["additionalProperties"]
    for place in (schema, phase, phase["properties"]["pick"], phase["properties"]["draws"], schema["properties"]["report"]):
        for key, said in place["properties"].items():
            assert len(said["description"]) > 5, key
    assert schema["$defs"]["moco_cxr_config"]["properties"]["epochs"] == {
        "type": "integer",
        "default": 20,
        "description": "passes over the training images",
    }
    assert set(schema["properties"]) == set(SWEEP.keys)


def test_numbers_of_the_file_are_plain_json() -> None:
    assert json.loads(pretty_json(sweep_schema(CATALOG))) == sweep_schema(CATALOG)
