"""The page of what `--json` prints is current, and tells what the code has for a scheduler, which is not here to be asked."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from orchestrator import json_page, reference
from orchestrator.model import Contamination
from orchestrator.report.checking.check import Checked, Fault
from orchestrator.scheduler import Efficiency, Forecast, Start, Used, Waiting
from tests.orchestrator.json_fields import faults_of

ROOT = Path(__file__).parents[1]


def test_the_page_is_current() -> None:
    assert (ROOT / "docs" / "json.md").read_text(encoding="utf-8") == json_page.page(), "type: make docs"


def test_every_command_that_prints_json_is_told() -> None:
    found = {context.command_path for context, command in reference.commands() if any("--json" in one.opts for one in command.params)}
    told = {command.removesuffix(" --check") for command in json_page.COMMANDS}
    assert found == told


@pytest.mark.parametrize(
    ("told", "start", "record"),
    [
        (json_page.PLAN, "starts.", Forecast),
        (json_page.PLAN, "starts.starts[].", Start),
        (json_page.PLAN, "contamination[].", Contamination),
        (json_page.STATUS, "[].efficiency.", Efficiency),
        (json_page.STATUS, "[].efficiency.rows[].", Used),
        (json_page.EXPLAIN, "waiting.", Waiting),
        (json_page.CHECK, "faults[].", Fault),
        (json_page.CHECK, "", Checked),
    ],
)
def test_what_is_not_seen_here_is_told_by_its_type(told: dict[str, str], start: str, record: Any) -> None:
    names = {path.removeprefix(start).partition(".")[0].partition("[")[0] for path in told if path.startswith(start)}
    assert {field.name for field in fields(record)} == names - {"brake", "report"} | ({"report"} if record is Fault else set())


def test_a_field_too_many_or_too_few_is_seen() -> None:
    told = {"a": "", "b[]": "", "b[].c": "", "d.<key>": "", "e": "only where there is one", "f": "", "f.g": ""}
    assert faults_of({"a": 1, "b": [{"c": 2}], "d": {"x": 1}, "f": None}, told) == []
    assert faults_of({"a": 1, "b": [], "d": {}, "f": {"g": 1}}, told) == []
    assert faults_of({"a": 1, "b": [{"c": 2, "x": 3}], "d": {}, "f": {}, "z": 1}, told) == ["not told: b[].x", "not told: z"]
    assert faults_of({"b": [{"y": 1}], "d": {}, "f": {"g": 1}}, told) == ["not told: b[].y", "not printed: a", "not printed: b[].c"]
