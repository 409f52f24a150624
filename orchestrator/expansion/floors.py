"""The no-network floor: a tiny trainer on the same draws and test sets, so that a shortcut in the data shows at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from jobs.catalog import Declaration
from jobs.spec import Resources
from orchestrator.expansion.places import fault
from orchestrator.expansion.points import DATA, FLOOR
from orchestrator.model import Parents, Phase, Pick, Sweep


def with_floors(sweep: Sweep, catalog: Mapping[str, Declaration]) -> tuple[Sweep, frozenset[str]]:
    """Return the sweep with a floor beside every last phase that classifies, and the names of these phases.

    Raises SweepError when no trainer declares itself a floor, or a name is taken.
    """
    if not sweep.report.floor:
        return sweep, frozenset()
    followed = {name for phase in sweep.phases for parents in phase.after for name in parents.roles.values()}
    trainers = sorted(name for name, declaration in catalog.items() if declaration.floor)
    if not trainers:
        raise fault(sweep, "report.floor", "no trainer declares itself a floor: leave `floor` out, or add the trainer 'thumbnail'")
    declared = catalog[trainers[0]]
    last = [phase for phase in sweep.phases if phase.name not in followed and phase.evaluate]
    leaves = [phase for phase in last if _has_floor(catalog[phase.trainer], declared)]
    if not leaves:
        return sweep, frozenset()
    several = next((phase for phase in leaves if len(phase.sources) > 1), None)
    if several is not None:
        message = f"a floor learns from one card, and '{several.name}' has {len(several.sources)} sources: leave `floor` out"
        raise fault(sweep, "report.floor", message)
    taken = {phase.name for phase in sweep.phases}
    floors = [_floor_of(phase, FLOOR if len(leaves) == 1 else f"{FLOOR}_{phase.name}", trainers[0]) for phase in leaves]
    for floor in floors:
        if floor.name in taken:
            raise fault(sweep, f"phases.{floor.name}", f"'{floor.name}' is the name of the arm that report.floor adds: rename the phase")
    return replace(sweep, phases=(*sweep.phases, *floors)), frozenset(floor.name for floor in floors)


def _has_floor(declaration: Declaration, floor: Declaration) -> bool:
    """Tell whether a trainer learns from labels of a kind that the floor can learn from: there is no floor of masks."""
    return declaration.labels and not declaration.floor and bool(set(declaration.tasks) & set(floor.tasks))


def _floor_of(phase: Phase, name: str, trainer: str) -> Phase:
    """Return the floor of a phase: same data, draws and targets, its last state, no axis besides the data."""
    ask = phase.resources
    return Phase(
        name=name,
        trainer=trainer,
        after=(Parents(),),
        data=phase.data,
        sources=phase.sources,
        axes=tuple(axis for axis in phase.axes if axis.keys == (DATA,)),
        draws=phase.draws,
        seeds=phase.seeds,
        pick=Pick(metric=None, rule="last"),
        evaluate=tuple(replace(target, embedding=None) for target in phase.evaluate),
        resources=replace(Resources(), cpus=ask.cpus, memory_mb=ask.memory_mb, time_minutes=ask.time_minutes),
        fuse=phase.fuse,
        sweep_seed=phase.sweep_seed,
        missing=phase.missing,
    )
