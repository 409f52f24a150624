"""Phases with several sources: which trainers learn from them, and which validation metrics there are to choose by."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from jobs.catalog import Declaration
from jobs.spec import Split
from orchestrator.expansion.places import fault
from orchestrator.expansion.references import Resolver
from orchestrator.grammar.faults import suggest
from orchestrator.model import Phase, Sweep

#: Over all sources, with equal weight.
_MEANS = ("mean_auroc", "mean_loss")
#: Of one source; a group of its card is an `auroc_<group>` too.
_WHOLE = ("auroc_macro", "loss", "accuracy")
_AREA, _OF_LABEL, _VAL = "auroc_", "auroc/", "val/"


def refuse_several(sweep: Sweep, phase: Phase, catalog: Mapping[str, Declaration]) -> None:
    """Refuse several sources of a trainer that learns from one card, and a card that stands among them twice. Raises SweepError."""
    path = f"phases.{phase.name}.sources"
    if len(phase.sources) > 1 and catalog[phase.trainer].by_source is None:
        several = [name for name, one in sorted(catalog.items()) if one.by_source is not None]
        others = f", or a trainer that learns from several ({', '.join(several)})" if several else ""
        message = f"trainer '{phase.trainer}' learns from one card, and {len(phase.sources)} are named: name one as `data`, a union{others}"
        raise fault(sweep, path, message)
    twice = next((card for card in phase.sources if phase.sources.count(card) > 1), None)
    if twice is not None:
        raise fault(sweep, path, f"'{twice}' is named twice, and a source is one card: leave one out")


def seen_notes(phase: Phase, resolver: Resolver) -> Iterator[str]:
    """Say of which sources validation images may be among those that another source trains on: what is chosen by them is too good."""
    for card in phase.sources:
        for other in phase.sources:
            why = resolver.overlap(other, card, Split.VAL)
            if why:
                yield (
                    f"{phase.name}: validation images of '{card}' may be seen in training on '{other}' ({why}): its validation numbers and "
                    "the means over sources may choose and are no results"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMetrics:
    """Which validation metrics a trainer writes of some sources: their labels by card, and its further networks."""

    labels: Mapping[str, Collection[str]]
    networks: tuple[str, ...]

    def refusal(self, metric: str) -> str | None:
        """Return why a metric is none of them, with what to type; None where it is one."""
        if metric in self._means():
            return None
        card, _, rest = metric.removeprefix(_VAL).partition("/")
        if card not in self.labels or not metric.startswith(_VAL):
            known = [*self._means(), *(f"{_VAL}{name}/auroc_macro" for name in self.labels)]
            return f"is measured on no source{suggest(metric, known, what='there are')}"
        network, _, inner = rest.partition("/")
        rest = inner if network in self.networks else rest
        if rest.startswith(_OF_LABEL):
            label = rest.removeprefix(_OF_LABEL)
            if label in self.labels[card]:
                return None
            return f"names no label of '{card}'{suggest(label, tuple(self.labels[card]), what='there are')}"
        if rest in _WHOLE or (rest.startswith(_AREA) and len(rest) > len(_AREA)):
            return None
        return f"is no metric of a source{suggest(f'{_VAL}{card}/{rest}', [f'{_VAL}{card}/{one}' for one in _WHOLE], what='there are')}"

    def _means(self) -> list[str]:
        return [f"{_VAL}{network}{mean}" for network in ("", *(f"{one}/" for one in self.networks)) for mean in _MEANS]
