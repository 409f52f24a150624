"""`report --check`: every number of a text against the report, with its place and what the report says."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import ReportError
from orchestrator.report.checking.known import Context, Known, known, words_of
from orchestrator.report.checking.texts import Named, Spot, Text, Typed, read_text
from orchestrator.report.checking.written import Written, agrees, as_written, read_number
from orchestrator.report.values import Report

#: A sentence that goes on about a result.
_OF_RESULTS = re.compile(r"\bC\.?I\.?\b|\b[Ii]ntervals?\b|\b[pq]\b\s*[$~\s]*[=<>]|\b[Dd]ifferences?\b|\badjusted\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A number that differs from the report, or a name that the report does not have."""

    file: str
    line: int
    column: int
    says: str
    #: What the report says, empty where it says nothing.
    report: str
    name: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.message}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a check found. `named` and `typed` count numbers that are as in the report."""

    faults: tuple[Fault, ...]
    named: int
    typed: int
    #: Numbers beside no name of the report, which nothing can be said of.
    unchecked: int
    files: tuple[str, ...]

    def summary(self) -> str:
        """Say in one line what was compared."""
        right = self.named + self.typed
        wrong = f"{len(self.faults)} differ" if self.faults else "all as in the report"
        left = f"; {self.unchecked} more stand beside no name of the report and were not compared" if self.unchecked else ""
        return f"{right + len(self.faults)} numbers compared ({self.named} by name, {self.typed} by what stands beside them): {wrong}{left}"


def check(report: Report, paths: Sequence[Path]) -> Checked:
    r"""Compare the numbers of some texts, and of what they `\input`, with a report.

    Raises ReportError for a file that cannot be read, and where nothing in them can be compared.
    """
    texts = list(_with_inputs(paths))
    facts = known(report)
    faults: list[Fault] = []
    named = typed = unchecked = 0
    for text in texts:
        facts = _with_aliases(facts, text)
    for text in texts:
        for one in text.named:
            fault = _named_fault(one, facts)
            faults += [fault] if fault else []
            named += fault is None
        for one in text.typed:
            found = _typed_fault(one, facts)
            faults += [found] if isinstance(found, Fault) else []
            typed += found is True
            unchecked += found is False
    if not faults and not named + typed:
        raise ReportError(
            f"{', '.join(map(str, paths))}: no number in it stands by a name of this report; take tables from the folder `tables` beside "
            r"report.tex, or write \cxr{name}{number} with a name from the column `key` of report.csv"
        )
    faults.sort(key=lambda one: (one.file, one.line, one.column))
    return Checked(faults=tuple(faults), named=named, typed=typed, unchecked=unchecked, files=tuple(str(text.path) for text in texts))


def _with_inputs(paths: Sequence[Path]) -> Iterator[Text]:
    """Yield the texts and what they take in by `\\input`, each once; a file that is not there is TeX's to complain of."""
    waiting, seen = [(path, path.parent) for path in paths], set[Path]()
    while waiting:
        path, home = waiting.pop(0)
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        text = read_text(path)
        yield text
        for name in text.inputs:
            found = home / (name if Path(name).suffix else f"{name}.tex")
            if found.is_file():
                waiting.append((found, home))


def _with_aliases(facts: Known, text: Text) -> Known:
    for spot, name, arm in text.aliases:
        try:
            facts = facts.called(name, arm)
        except ReportError as error:
            raise ReportError(f"{spot.file}:{spot.line}:{spot.column}: {error}") from None
    return facts


def _named_fault(one: Named, facts: Known) -> Fault | None:
    try:
        value = facts.named(one.name)
    except ReportError as error:
        return _fault(one.spot, one.shown, "", one.name, str(error))
    written = read_number(one.shown)
    if written is None:
        return _fault(one.spot, one.shown, "", one.name, f"'{one.shown.strip()}' is not one number, and stands for {one.name}")
    if value is None:
        return _fault(one.spot, written.text, "", one.name, f"says {written.text}, and the report could not estimate {one.name}")
    if agrees(written, value):
        return None
    hint = ""
    if value < 0 and agrees(written, -value):
        hint = f"; for its size without the sign, name it {one.name}.abs"
    return _fault(one.spot, written.text, as_written(written, value), one.name, _differs(written, value, one.name) + hint)


def _typed_fault(one: Typed, facts: Known) -> Fault | bool:
    """Return the fault of a number without a name, True where it is as in the report, False where nothing can be said of it."""
    written = read_number(one.shown)
    context = _context(one, facts)
    if written is None or not context.is_specific or written.value in facts.settings:
        return False
    meant = [(name, value) for name, value in facts.candidates(context) if _is_p(name) == one.is_p]
    if not meant:
        return False
    # `0.05 lower` writes the size of a negative difference, and an interval may be written without its plus signs.
    if any(agrees(written, value) or (not written.signed and agrees(written, abs(value))) for _, value in meant):
        return True
    shown = [pair for pair in meant if "@" not in pair[0]] or meant
    name, value = min(shown, key=lambda pair: abs(pair[1] - (written.value / 100 if written.percent else written.value)))
    said = f"says {written.text.strip()} of {_said(context, facts)}, for which the report has no such number; the nearest is "
    return _fault(one.spot, written.text, as_written(written, value), name, f"{said}{as_written(written, value)} ({name})")


def _context(one: Typed, facts: Known) -> Context:
    here = Context()
    for piece in one.around:
        here |= facts.context(words_of(piece))
    if here.arms or not one.before or not (here != Context() or _OF_RESULTS.search(one.around[0])):
        return here
    # In a sentence about results, what the sentences before named still holds, but for what this one names itself.
    earlier = facts.context(words_of(one.before))
    return Context(
        arms=earlier.arms,
        sizes=here.sizes or earlier.sizes,
        findings=here.findings or earlier.findings,
        measures=here.measures or earlier.measures,
        test_sets=here.test_sets or earlier.test_sets,
    )


def _is_p(name: str) -> bool:
    return name.rpartition(".")[2] in ("p", "p_adjusted")


def _said(context: Context, facts: Known) -> str:
    names = {key: name for name, key in facts.arms.items()}
    parts = [*(names.get(arm, arm) for arm in sorted(context.arms)), *sorted(context.sizes), *sorted(context.findings)]
    return ", ".join(parts)


def _differs(written: Written, value: float, name: str) -> str:
    return f"says {written.text}, the report says {as_written(written, value)} ({name})"


def _fault(spot: Spot, says: str, report: str, name: str, message: str) -> Fault:
    return Fault(file=str(spot.file), line=spot.line, column=spot.column, says=says.strip(), report=report, name=name, message=message)
