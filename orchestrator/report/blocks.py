"""What a section is made of: blocks of sentences, figures and tables, some of them in several views."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from orchestrator.report.entries import Table
from orchestrator.report.figures.drawing import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One of several views of a block, such as one number of labels. A page shows one at a time, print and texts show all."""

    title: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One answer: its figures, its tables, and views of it. `title` is empty where the heading above says enough."""

    key: str
    title: str = ""
    #: What stands before figures and tables.
    sentences: tuple[str, ...] = ()
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    panels: tuple[Panel, ...] = ()
    #: What the panels differ in.
    panels_by: str = "Number of labels"
    #: Whether its tables are written as LaTeX too; those of runs alone are for the reader of the page.
    in_latex: bool = True
    #: Whether it holds what others' procedures say, so that `report --check` must not take its numbers for answers of the report.
    of_others: bool = False

    def all_figures(self) -> tuple[Figure, ...]:
        """Return the figures of the block and of its panels."""
        return (*self.figures, *chain.from_iterable(panel.figures for panel in self.panels))

    def all_tables(self) -> tuple[Table, ...]:
        """Return the tables of the block and of its panels."""
        return (*self.tables, *chain.from_iterable(panel.tables for panel in self.panels))
