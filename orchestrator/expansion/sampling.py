"""Cut a sweep to a few minutes on made data: two values an axis, three draws at two sizes, networks of test size.

Every cut is said in a note, and nothing is added: what is left is a part of the sweep with smaller configs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from jobs.catalog import PRESET, Declaration
from jobs.spec import Json, Scalar
from orchestrator.expand import expand
from orchestrator.expansion.forms import form_of
from orchestrator.expansion.labels import carries, label_text, label_value, same
from orchestrator.expansion.places import fault
from orchestrator.expansion.points import AFTER
from orchestrator.expansion.references import DataRef, WeightsRef
from orchestrator.expansion.replicates import DRAW, FRACTION, repeats_of
from orchestrator.model import Axis, AxisKind, Draws, Parents, Phase, Sample, Search, Sweep, When

COMPARED, TUNED, DRAWS, SIZES, SEEDS, FOLDS, TARGETS = 2, 2, 3, 2, 3, 3, 2
#: Samples of a search: with fewer there is hardly anything to stop.
SEARCHED = 4
#: Config keys of which a sample has one value, of test size, however many a sweep compares.
_BACKBONES = frozenset({"arch", "backbone"})
#: Config keys that make a run long: where a sample sets all keys of a zip, another one stays.
_COSTLY = frozenset({"epochs", "cycles", "steps", "px", "batch_size", "queue_size"})
_PX = "px"
#: With more values than this, a note counts what was dropped.
_LISTED = 6


@dataclass(slots=True)
class _Cut:
    """What a sample keeps, and sentences about what it drops."""

    sweep: Sweep
    catalog: Mapping[str, Declaration]
    request: Sample
    #: True once more than two named values of a compare axis are dropped too.
    strict: bool = False
    notes: dict[str, None] = field(default_factory=dict)

    def note(self, sentence: str) -> None:
        self.notes[sentence] = None


def sample(sweep: Sweep, catalog: Mapping[str, Declaration]) -> tuple[Sweep, tuple[str, ...]]:
    """Return the sweep as `--sample` runs it, and what was dropped. Raises SweepError when it stays above `max_jobs`."""
    request = sweep.sample or Sample()
    counts: list[int] = []
    for strict in (False, True):
        cut = _Cut(sweep=sweep, catalog=catalog, request=request, strict=strict)
        small = _sampled(cut)
        for targets in (False, True):
            tried = _fewer_targets(small, cut) if targets else small
            counts.append(len(expand(tried, catalog, _Counting(), sampled=True).jobs))
            if counts[-1] <= request.max_jobs:
                return tried, (*cut.notes, f"{counts[-1]} jobs at {request.px} px with {request.n} made patients")
    raise fault(
        sweep,
        "sample.max_jobs",
        f"the smallest sample has {counts[-1]} jobs, and max_jobs is {request.max_jobs}: raise it, or name fewer values in `sample.keep` "
        f"(the longest axes are {', '.join(_longest(small)) or 'none'})",
    )


def _sampled(cut: _Cut) -> Sweep:
    top = [kept for axis in cut.sweep.compare if (kept := _axis(axis, cut, "", _top_overrides(cut))) is not None]
    return replace(cut.sweep, compare=tuple(top), phases=tuple(_phase(phase, cut) for phase in cut.sweep.phases))


def _overrides(phase: Phase, cut: _Cut) -> dict[str, Json]:
    """Return the config keys that a sample sets: the trainer's own, the sample's px, then what the sweep says.

    Where presets are looked at, what they set stays, but for what makes a run long.
    """
    declaration = cut.catalog[phase.trainer]
    known = form_of(declaration.config).types
    kept = _set_by_presets(phase, cut) - _COSTLY - _BACKBONES
    own: dict[str, Json] = {key: value for key, value in declaration.sample.items() if key in known and key not in kept}
    if cut.sweep.sample is not None and _PX in known:
        own[_PX] = cut.request.px
    return own | dict(cut.request.set.get(phase.name, {}))


def _set_by_presets(phase: Phase, cut: _Cut) -> frozenset[str]:
    """Return the keys that the presets of a phase set; none where neither the phase nor an axis names a preset."""
    axes = (*phase.axes, *(cut.sweep.compare if phase.shared is None else phase.shared))
    if phase.preset is None and not any(PRESET in axis.keys for axis in axes):
        return frozenset()
    return frozenset(key for settings in cut.catalog[phase.trainer].presets.values() for key in settings)


def _top_overrides(cut: _Cut) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for phase in cut.sweep.phases:
        found |= _overrides(phase, cut)
    return found


def _phase(phase: Phase, cut: _Cut) -> Phase:
    overrides, after = _overrides(phase, cut), _after(phase, cut)
    axes = tuple(kept for axis in phase.axes if (kept := _axis(axis, cut, phase.name, overrides)) is not None)
    shared = None
    if phase.shared is not None:
        shared = tuple(kept for axis in phase.shared if (kept := _axis(axis, cut, phase.name, overrides)) is not None)
    top = cut.sweep.compare if phase.shared is None else phase.shared
    varied = {key for axis in (*axes, *_kept_top(top, cut)) for key in axis.keys}
    settings = {key: value for key, value in overrides.items() if key not in varied}
    draws = None if phase.draws is None else _draws(phase.draws, cut, phase.name)
    return replace(
        phase,
        config={**phase.config, **settings},
        axes=axes,
        shared=shared,
        after=after,
        draws=draws,
        seeds=None if phase.seeds is None else _seeds(phase.seeds, cut, phase.name),
        search=None if phase.search is None else _search(phase.search, cut, phase.name),
        when=tuple(_when(when, settings) for when in phase.when),
        pick=None if phase.pick is None else replace(phase.pick, on=_on(phase.pick.on, draws)),
    )


def _kept_top(axes: Iterable[Axis], cut: _Cut) -> list[Axis]:
    """Return the sweep's own axes that a sample keeps, without saying again what it drops of them."""
    quiet = _Cut(sweep=cut.sweep, catalog=cut.catalog, request=cut.request, strict=cut.strict)
    overrides = _top_overrides(quiet)
    return [kept for axis in axes if (kept := _axis(axis, quiet, "", overrides)) is not None]


# --- axes


def _axis(axis: Axis, cut: _Cut, phase: str, overrides: Mapping[str, Json]) -> Axis | None:
    """Return an axis with the values that a sample keeps; None for backbones, of which there is one of test size."""
    named = {key: cut.request.keep[key] for key in axis.keys if key in cut.request.keep}
    where = f"{phase}." if phase else ""
    replaced = [key for key in axis.keys if key in overrides and key not in named and not _in_baseline(key, cut)]
    if set(axis.keys) <= set(replaced) and set(axis.keys) & _BACKBONES:
        values = ", ".join(label_text(label_value(overrides[key])) for key in axis.keys)
        cut.note(f"{where}{'+'.join(axis.keys)}: one value of test size ({values}) instead of {len(axis.points)}")
        return None
    # A zip loses the keys that the sample sets; one is left, and not the one that makes a run long.
    kept_keys = (
        tuple(key for key in axis.keys if key not in replaced) or tuple(key for key in axis.keys if key not in _COSTLY)[:1] or axis.keys
    )
    points = tuple({key: point[key] for key in kept_keys} for point in axis.points)
    points = _distinct(points)
    chosen = [point for point in points if carries({key: label_value(value) for key, value in point.items()}, named)] if named else []
    most = TUNED if axis.kind is AxisKind.TUNE else COMPARED
    if not chosen:
        chosen = _with_baseline(points, most, cut)
    elif cut.strict and axis.kind is AxisKind.COMPARE:
        chosen = chosen[:COMPARED]
    dropped = [point for point in points if point not in chosen]
    if dropped:
        text = "; ".join(", ".join(label_text(label_value(value)) for value in point.values()) for point in dropped)
        cut.note(f"{where}{'+'.join(kept_keys)}: dropped {text if len(dropped) <= _LISTED else f'{len(dropped)} of {len(points)} values'}")
    return Axis(kind=axis.kind, keys=kept_keys, points=tuple(chosen))


def _distinct(points: tuple[Mapping[str, Json], ...]) -> tuple[Mapping[str, Json], ...]:
    found: list[Mapping[str, Json]] = []
    for point in points:
        if point not in found:
            found.append(point)
    return tuple(found)


def _baseline_values(key: str, cut: _Cut) -> list[Scalar]:
    return [value for contrast in cut.sweep.report.contrasts for name, value in contrast.baseline.items() if name.rpartition(".")[2] == key]


def _in_baseline(key: str, cut: _Cut) -> bool:
    return bool(_baseline_values(key, cut))


def _with_baseline(points: tuple[Mapping[str, Json], ...], most: int, cut: _Cut) -> list[Mapping[str, Json]]:
    """Return the first values, the baseline's always among them."""
    wanted = [
        point
        for point in points
        if any(same(label_value(value), base) for key, value in point.items() for base in _baseline_values(key, cut))
    ]
    others = [point for point in points if point not in wanted]
    kept = [*wanted, *others[: max(most - len(wanted), 1 if len(wanted) >= most and others else 0)]]
    return [point for point in points if point in kept]


def _after(phase: Phase, cut: _Cut) -> tuple[Parents, ...]:
    if not phase.after_is_axis:
        return phase.after
    axis = Axis(kind=AxisKind.COMPARE, keys=(AFTER,), points=tuple({AFTER: parents.label} for parents in phase.after))
    kept = _axis(axis, cut, phase.name, {})
    labels = [point[AFTER] for point in kept.points] if kept is not None else []
    return tuple(parents for parents in phase.after if parents.label in labels)


def _search(search: Search, cut: _Cut, phase: str) -> Search:
    if search.samples > SEARCHED:
        cut.note(f"{phase}: {SEARCHED} samples of {search.samples}")
    space = tuple(replace(axis, points=axis.points[:SEARCHED]) for axis in search.space)
    return replace(search, samples=min(search.samples, SEARCHED), space=space)


# --- replicates and conditions


def _draws(draws: Draws, cut: _Cut, phase: str) -> Draws:
    if draws.scheme != FRACTION:
        cut.note(f"{phase}: the first {FOLDS} folds")
        return replace(draws, first_folds=FOLDS, repeats=(1,))
    sizes = list(zip(draws.fractions, repeats_of(draws), strict=True))
    named = cut.request.keep.get(draws.size_label)
    if named is not None:
        kept = [pair for pair in sizes if any(same(pair[0], value) for value in named)]
    else:
        # Made data is small: the largest shares of it, or the smallest counts, are draws that can be had.
        order = sorted(sizes, key=lambda pair: pair[0], reverse=not draws.counted)[:SIZES]
        kept = [pair for pair in sizes if pair in order]
    kept = kept or sizes[:SIZES]
    if len(kept) < len(sizes):
        dropped = ", ".join(label_text(size) for size, _ in sizes if size not in [one for one, _ in kept])
        cut.note(f"{phase}.{draws.size_label}: dropped {dropped}")
    if any(repeats > DRAWS for _, repeats in kept):
        cut.note(f"{phase}: {DRAWS} draws of each size instead of {max(repeats for _, repeats in kept)}")
    return replace(draws, fractions=tuple(size for size, _ in kept), repeats=tuple(min(repeats, DRAWS) for _, repeats in kept))


def _seeds(seeds: int, cut: _Cut, phase: str) -> int:
    if seeds > SEEDS:
        cut.note(f"{phase}: {SEEDS} seeds instead of {seeds}")
    return min(seeds, SEEDS)


def _when(when: When, settings: Mapping[str, Json]) -> When:
    """Return a condition that no longer sets what the sample sets."""
    return replace(when, settings={key: value for key, value in when.settings.items() if key not in settings})


def _on(on: Mapping[str, tuple[Scalar, ...]], draws: Draws | None) -> dict[str, tuple[Scalar, ...]]:
    """Return where the grid runs, on a size or draw that is still there."""
    if draws is None:
        return dict(on)
    left: Mapping[str, tuple[Scalar, ...]] = {draws.size_label: draws.fractions, DRAW: tuple(range(max(draws.repeats)))}
    found: dict[str, tuple[Scalar, ...]] = {}
    for name, values in on.items():
        known = left.get(name)
        fitting = values if known is None else tuple(value for value in values if any(same(value, other) for other in known))
        found[name] = fitting or (known or values)[:1]
    return found


# --- the limit


def _fewer_targets(sweep: Sweep, cut: _Cut) -> Sweep:
    for phase in sweep.phases:
        if len(phase.evaluate) > TARGETS:
            cut.note(f"{phase.name}.evaluate: dropped {', '.join(target.data for target in phase.evaluate[TARGETS:])}")
    return replace(sweep, phases=tuple(replace(phase, evaluate=phase.evaluate[:TARGETS]) for phase in sweep.phases))


def _longest(sweep: Sweep) -> list[str]:
    """Name the axes that have more than one value, the longest first."""
    lengths = {"+".join(axis.keys): len(axis.points) for axis in sweep.compare}
    for phase in sweep.phases:
        lengths |= {f"{phase.name}.{'+'.join(axis.keys)}": len(axis.points) for axis in phase.axes}
        if phase.after_is_axis:
            lengths[f"{phase.name}.{AFTER}"] = len(phase.after)
    ranked = sorted(lengths.items(), key=lambda item: -item[1])
    return [f"{name} ({length})" for name, length in ranked if length > 1][:4]


class _Counting:
    """A resolver for counting jobs: every answer is made up, none is kept."""

    made_data = True

    def data(self, name: str) -> DataRef:
        return DataRef(identity={"card": name, "card_sha256": hashlib.sha256(name.encode()).hexdigest()})

    def folds(self, name: str, draws: Draws) -> int:
        return draws.folds if draws.scheme == "kfold" else FOLDS

    def weights(self, value: str, *, arch: str | None) -> WeightsRef | None:
        return None

    def file(self, value: str) -> WeightsRef:
        return WeightsRef(sha256=None)

    def labels(self, card: str) -> tuple[str, ...]:
        return ("any",)

    def task(self, card: str) -> str:
        return ""

    def overlap(self, trained: str, card: str, split: str) -> str:
        return ""

    def pooled(self, card: str, split: str) -> tuple[str, ...]:
        return ()
