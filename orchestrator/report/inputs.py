"""What is analysed: runs that are there or not, the design they stand in, and what is asked of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from jobs.paths import RunPaths
from jobs.records import read_record
from orchestrator.errors import Error
from orchestrator.model import Contamination, Contrast, Plan, ReportSpec
from orchestrator.report.design import Design
from orchestrator.report.left_out import left_out
from orchestrator.report.pictures.reading import pictures_of
from orchestrator.report.pictures.values import Picture
from orchestrator.report.results import Run, read_runs
from orchestrator.report.values import ArmInfo


class Arms(Protocol):
    """How runs are laid out: which arms there are, and which is compared with which."""

    def arms(self, keys: Iterable[str]) -> tuple[ArmInfo, ...]:
        """Return some arms in order, floor rows last, each with a title as short as tells them apart."""
        ...

    def pairs(self, contrast: Contrast, keys: Iterable[str]) -> list[tuple[str, str]]:
        """Return (arm, its baseline) among some arms. Raises ReportError when there is no such pair."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What a report takes from a data set card."""

    title: str
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """All that an analysis needs. A plan gives it, and so do anybody's files."""

    sweep: str
    about: str = ""
    report: ReportSpec
    runs: tuple[Run, ...]
    design: Arms
    #: By the name of the card; a card that is not found here is not in it.
    cards: Mapping[str, CardFacts] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sample: bool = False
    made_data: bool = False
    #: Draws are told apart by name and not by the sha256 of their patients.
    draws_by_name: bool = False
    #: What a reader must know of where the runs are from.
    warnings: tuple[str, ...] = ()
    contamination: tuple[Contamination, ...] = ()
    pictures: tuple[Picture, ...] = ()
    #: What to type while no run is there.
    next_step: str = ""


def inputs_of(plan: Plan, run: RunPaths) -> Inputs:
    """Read what a plan's evaluations left in a run root. Raises ReportError on predictions that cannot be trusted."""
    runs = tuple(read_runs(plan, run))
    return Inputs(
        sweep=plan.sweep,
        about=plan.about,
        report=plan.report,
        runs=runs,
        design=Design.of(plan),
        cards=_cards({one.card for one in runs}, run),
        notes=plan.notes,
        sample=plan.sample,
        made_data=plan.made_data,
        contamination=plan.contamination,
        pictures=pictures_of(plan, run, runs),
        warnings=left_out(plan, run),
        next_step=f"orchestrate status {plan.file or plan.sweep}",
    )


def _cards(names: Iterable[str], run: RunPaths) -> dict[str, CardFacts]:
    from trainers.data.cards import load_card

    folders = [Path(folder) for folder in read_record(run.machine).get("card_paths", ())] if run.machine.exists() else []
    found: dict[str, CardFacts] = {}
    for name in sorted(names):
        try:
            card = load_card(name, folders)
        except Error:
            continue
        found[name] = CardFacts(title=card.title, groups=card.groups)
    return found
