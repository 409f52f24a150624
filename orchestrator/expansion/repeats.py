"""More repeats than a sweep says, asked for on the command line: draws are added, and those that are there keep their jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from orchestrator.errors import Error
from orchestrator.expansion.replicates import FRACTION, repeats_of
from orchestrator.model import Draws, Phase, Sweep

#: More draws of one size than this are a slip of a digit.
MOST = 1000
_HOW = "write a number for all sizes, such as 8, or numbers by size, such as 0.01=8,0.1=10"


def parse_repeats(text: str) -> dict[float | None, int]:
    """Read `8` or `0.01=8,0.1=10` as repeats by size; None stands for every size. Raises Error."""
    found: dict[float | None, int] = {}
    for part in text.split(","):
        size, equals, number = part.partition("=") if "=" in part else ("", "", part)
        try:
            at, repeats = (float(size) if equals else None), int(number)
        except ValueError:
            raise Error(f"--repeats {text}: '{part.strip()}' is no number of repeats; {_HOW}") from None
        if not 1 <= repeats <= MOST:
            raise Error(f"--repeats {text}: {repeats} is not between 1 and {MOST}; {_HOW}")
        if at in found or (found and (at is None) != (None in found)):
            raise Error(f"--repeats {text}: '{part.strip()}' does not go with what stands before it; {_HOW}")
        found[at] = repeats
    return found


def with_repeats(sweep: Sweep, wanted: Mapping[float | None, int]) -> tuple[Sweep, tuple[str, ...]]:
    """Return a sweep with at least so many repeats, and what was raised. Draw d of a size depends on the seed, the size and d alone.

    Raises Error when no phase has such draws, when fewer are asked for than the sweep says, and where seeds are paired with the draws.
    """
    drawn = {phase.name: phase.draws for phase in sweep.phases if phase.draws is not None and phase.draws.scheme == FRACTION}
    if not drawn:
        raise Error(f"{sweep.file}: no phase has draws of a fraction or a count, so there are no repeats to raise; leave --repeats out")
    sizes = sorted({size for draws in drawn.values() for size in draws.fractions})
    unknown = [size for size in wanted if size is not None and size not in sizes]
    if unknown:
        raise Error(f"--repeats: no phase draws {unknown[0]:g}; the sizes are {', '.join(f'{size:g}' for size in sizes)}")
    notes: list[str] = []
    phases: list[Phase] = []
    for phase in sweep.phases:
        if phase.name not in drawn:
            phases.append(phase)
            continue
        raised, said = _raised(phase, drawn[phase.name], wanted)
        _check_pairs(sweep, phase, raised)
        phases.append(replace(phase, draws=raised))
        notes += said
    return replace(sweep, phases=tuple(phases)), tuple(notes)


def _raised(phase: Phase, draws: Draws, wanted: Mapping[float | None, int]) -> tuple[Draws, list[str]]:
    before = repeats_of(draws)
    after = tuple(wanted.get(size, wanted.get(None, now)) for size, now in zip(draws.fractions, before, strict=True))
    for size, now, then in zip(draws.fractions, before, after, strict=True):
        if then < now and (None not in wanted or size != 1.0):
            raise Error(
                f"--repeats: {phase.name} has {now} draws of {size:g} already, and {then} would leave some out; ask for {now} or more"
            )
    after = tuple(max(now, then) for now, then in zip(before, after, strict=True))
    changed = [
        f"{phase.name}: {then} draws of {size:g} instead of {now}"
        for size, now, then in zip(draws.fractions, before, after, strict=True)
        if then > now
    ]
    if not changed:
        return draws, []
    if draws.sizes == "random":
        raise Error(
            f"--repeats: the draws of {phase.name} have random sizes, which come from one stream through all of them, so more of them "
            "would make every draw anew; raise `repeats` in the sweep if that is meant, or use `sizes: exact`"
        )
    written = f"repeats: [{', '.join(map(str, after))}]"
    return replace(draws, repeats=after), [*changed, f"{phase.name}: to keep the draws, write {written} in the sweep"]


def _check_pairs(sweep: Sweep, phase: Phase, raised: Draws) -> None:
    """Refuse to tear draws from the seeds of a phase before that they are paired with, one for one."""
    before = max(repeats_of(phase.draws)) if phase.draws is not None else 0
    if max(repeats_of(raised)) == before:
        return
    paired = next((other for other in sweep.phases if other.name != phase.name and other.seeds == before and before > 1), None)
    if paired is not None:
        raise Error(
            f"--repeats: the {before} draws of {phase.name} are paired with the {before} seeds of {paired.name}, one for one; "
            f"raise both in {sweep.file}"
        )
