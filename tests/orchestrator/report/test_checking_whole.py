r"""`report --check` on all of a large report: every number of our own LaTeX is as the report has it, and none can be changed unseen."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.report import record
from orchestrator.report.analysis import build
from orchestrator.report.checking.check import check
from orchestrator.report.checking.known import known
from orchestrator.report.render import write
from orchestrator.report.values import Report
from tests.orchestrator.report.made_run import many_arms

#: A number in its macro: how it begins, and what it says.
NAMED = re.compile(r"(\\cxr\{([^{}]+)\}\{)((?:[^{}]|\{[^{}]*\})*)\}")
GROUPS = {"contrastive": ({"init": "moco_cxr", "freeze": "nothing"},), "supervised": ({"init": "imagenet"},)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, plan = many_arms(tmp_path_factory.mktemp("run"), patients=60, draws=3)
    found = made.run.sweep("made").report
    asked = replace(plan.report, margin=0.02, groups=GROUPS)
    write(build(replace(plan, report=asked), made.run), found)
    return found


@pytest.fixture(scope="module")
def report(folder: Path) -> Report:
    return record.read(folder / "report.json")


def tables(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted((folder / "tables").glob("*.tex"))}


def test_all_tables_agree_whatever_the_decimals(report: Report, folder: Path) -> None:
    found = check(report, [folder / "report.tex"])
    assert found.faults == ()
    written = tables(folder)
    assert found.named == sum(len(NAMED.findall(text)) for text in written.values()) > 2000
    kinds = ("headline", "differences", "findings", "margin", "groups", "pairs", "ranks", "equivalence", "whole-curves", "borrowed", "next")
    for kind in kinds:
        assert any(name.startswith(kind) and NAMED.search(text) for name, text in written.items()), kind
    # Three decimals for an area, four for a width, one for a factor and for a place.
    decimals = {len(number.rpartition(".")[2]) for text in written.values() for _, _, number in NAMED.findall(text) if "." in number}
    assert decimals == {1, 2, 3, 4}


@pytest.mark.parametrize("from_right", [1, 2, 3, 4])
def test_no_digit_of_any_number_can_be_changed_unseen(report: Report, folder: Path, tmp_path: Path, from_right: int) -> None:
    """The same digit of every number is another one; a bound (`< 0.001`) that still holds is no fault, so bounds are left as they are.

    So is a value half way between two decimals (an area is a ratio of small numbers): either way to round it is right.
    """
    values = known(report).numbers
    (tmp_path / "tables").mkdir()
    changed = 0

    def other(found: re.Match[str]) -> str:
        nonlocal changed
        number, value = found[3], values[found[2]]
        places = [index for index, letter in enumerate(number) if letter.isdigit()]
        halves = 2 * (value or 0.0) * 10 ** len(number.partition(".")[2])
        half_way = abs(halves - round(halves)) < 1e-6 and round(halves) % 2 == 1
        if "<" in number or ">" in number or len(places) < from_right or half_way:
            return found[0]
        changed += 1
        at = places[-from_right]
        return f"{found[1]}{number[:at]}{(int(number[at]) + 1) % 10}{number[at + 1 :]}}}"

    for name, text in tables(folder).items():
        (tmp_path / "tables" / name).write_text(NAMED.sub(other, text), encoding="utf-8")
    (tmp_path / "report.tex").write_text((folder / "report.tex").read_text(encoding="utf-8"), encoding="utf-8")
    found = check(report, [tmp_path / "report.tex"])
    assert len(found.faults) == changed > 100


def test_no_number_of_any_table_lacks_a_name(folder: Path) -> None:
    for name, text in tables(folder).items():
        body = text.partition(r"\toprule")[2].rpartition(r"\bottomrule")[0]
        # A factor beyond what was measured is a place of the design, and a legend between two parts of a table names its level.
        body = re.sub(r"(?m)(?:below|beyond) [\d.]+|^\{\\raggedright.*$", "", NAMED.sub("", body))
        assert re.findall(r"\d?\.\d{2,}", body) == [], name


def test_no_sign_can_be_changed_unseen(report: Report, folder: Path, tmp_path: Path) -> None:
    text = tables(folder)["differences-phantom.tex"]
    signed = NAMED.sub(lambda found: found[0].replace("{+0.", "{$-$0.") if "{+0.000" not in found[0] else found[0], text)
    path = tmp_path / "table.tex"
    path.write_text(signed, encoding="utf-8")
    wanted = sum(number.startswith("+0.") and not number.startswith("+0.000") for _, _, number in NAMED.findall(text))
    assert len(check(report, [path]).faults) == wanted > 10
