"""Areas under the ROC curve over several sources at once: refused, because telling sources apart already raises them.

Prevalence differs by source. A score that is the same for all patients of a source, and higher where a finding is commoner, ranks
patients by source and gets an area above .5 without a look at a finding.
"""

from __future__ import annotations

from collections.abc import Iterable

from jobs.spec import Split
from orchestrator.expansion.places import fault
from orchestrator.expansion.references import Resolver
from orchestrator.model import SAME_DATA, Phase, Sweep

_AREAS = ("val/auroc", "val/auprc")
#: The trait of a card that says where each image of a released set is from.
SOURCE = "source"
_WHY = "prevalence differs by source, so that a score which only tells sources apart gets more than .5"


def refuse_pooled(sweep: Sweep, phase: Phase, points: Iterable[tuple[str, ...]], resolver: Resolver) -> None:
    """Refuse an evaluation, a pick or a search by an area over the members of a union. `points` are the cards that a phase trains on.

    Raises SweepError at the place, saying what to type.
    """
    trained = list(dict.fromkeys(card for cards in points for card in cards))
    path = f"phases.{phase.name}"
    for index, target in enumerate(phase.evaluate):
        for card in trained if target.data == SAME_DATA else (target.data,):
            members = _members(card, "train" if target.split == Split.HELD_OUT else target.split, resolver)
            if members:
                each = ", ".join(f"{{data: {name}, split: {target.split}}}" for name in members)
                message = f"'{card}' joins {' and '.join(members)}, and {_WHY}: score each by itself, `evaluate: [{each}]`"
                raise fault(sweep, f"{path}.evaluate[{index}].data", message)
    for key, asked in (("pick", phase.pick), ("search", phase.search)):
        if asked is None or asked.metric is None or not asked.metric.startswith(_AREAS):
            continue
        for card in trained:
            members = _members(card, Split.VAL, resolver)
            if members:
                message = f"is taken over {' and '.join(members)} of '{card}' at once, and {_WHY}: use val/loss"
                raise fault(sweep, f"{path}.{key}.metric", message)


def joined_notes(sweep: Sweep, phase: Phase, points: Iterable[tuple[str, ...]], resolver: Resolver) -> list[str]:
    """Say which test sets were joined from several sources by those who released them, where the report is not split by source."""
    if SOURCE in sweep.report.subgroups:
        return []
    trained = list(dict.fromkeys(card for cards in points for card in cards))
    scored = [card for target in phase.evaluate for card in (trained if target.data == SAME_DATA else (target.data,))]
    return [
        f"{phase.name}: '{card}' was joined from several sources, and {_WHY}: ask for `subgroups: [{SOURCE}]` under report"
        for card in dict.fromkeys(scored)
        if SOURCE in resolver.data(card).traits
    ]


def _members(card: str, split: str, resolver: Resolver) -> tuple[str, ...]:
    """Return the members of a labelled union that have images in a split, where there are several."""
    members = resolver.pooled(card, split) if resolver.labels(card) else ()
    return members if len(members) > 1 else ()
