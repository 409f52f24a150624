"""Evaluate jobs: every winner on every target, and nobody else on anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from jobs.spec import Input, JobSpec, Json, Split, Stage
from orchestrator.expansion.labels import labels_text
from orchestrator.expansion.picks import Winner
from orchestrator.expansion.places import fault
from orchestrator.expansion.points import Scene
from orchestrator.expansion.replicates import FRACTION
from orchestrator.expansion.specs import Content, Face, SpecWriter
from orchestrator.expansion.trains import data_content, of_another_task
from orchestrator.grammar.faults import suggest
from orchestrator.model import SAME_DATA, Phase, Pick, Target

#: Label of an evaluate job that names the data set it was scored on.
TARGET = "target"
_UNITS = ("score_per", "views", "cluster")
#: Values of `heads` that are no source; the first is the default.
_HEADS = ("auto", "mean")
#: What a pick takes where it hands on one checkpoint for all labels.
_ONE = ("best", 1, "run")


@dataclass(slots=True)
class Evaluator:
    """Writes the evaluate jobs of one phase."""

    phase: Phase
    scene: Scene
    writer: SpecWriter
    _data: dict[tuple[Json, ...], tuple[Content, bool]] = field(default_factory=dict)

    def run(self, winners: Sequence[Winner]) -> list[JobSpec]:
        """Return the evaluate jobs of some winners. Raises SweepError for a target that cannot be scored."""
        named = {cards: self._names(cards) for cards in dict.fromkeys(winner.point.cards for winner in winners)}
        return [
            self._evaluate(winner, target, card, shown)
            for winner in winners
            for target, (card, shown) in zip(self.phase.evaluate, named[winner.point.cards], strict=True)
        ]

    def notes(self, winners: Sequence[Winner]) -> list[str]:
        """Say which targets share no label with what the phase trains on: nothing of them can be scored."""
        found: dict[str, None] = {}
        if self.writer.declaration.open_labels:
            return []
        for cards in dict.fromkeys(winner.point.cards for winner in winners):
            known = {label for card in cards for label in self.scene.resolver.labels(card)}
            for card, _ in self._names(cards):
                theirs = self.scene.resolver.labels(card)
                if known and theirs and not known & set(theirs):
                    found[f"{self.phase.name}: '{card}' shares no label with {', '.join(cards)}, so nothing of it can be scored"] = None
        return list(found)

    def _names(self, cards: tuple[str, ...]) -> list[tuple[str, str]]:
        """Return the card of every target, and what the label `target` says: the card, with its split where that is needed."""
        found = [self._card(index, target, cards) for index, target in enumerate(self.phase.evaluate)]
        split = [f"{card}/{target.split}" for card, target in zip(found, self.phase.evaluate, strict=True)]
        full = [
            f"{name}/{target.score_per}/{target.views}" + (f"/{target.heads}" if target.heads else "")
            for name, target in zip(split, self.phase.evaluate, strict=True)
        ]
        names: list[tuple[str, str]] = []
        for card, with_split, in_full in zip(found, split, full, strict=True):
            enough = with_split if split.count(with_split) == 1 else in_full
            names.append((card, card if found.count(card) == 1 else enough))
        return names

    def _card(self, index: int, target: Target, cards: tuple[str, ...]) -> str:
        path = f"phases.{self.phase.name}.evaluate[{index}]"
        if target.data == SAME_DATA and len(cards) != 1:
            message = f"'same' is no single card: '{self.phase.name}' trains on {', '.join(cards) or 'none'}; name one"
            raise fault(self.scene.sweep, f"{path}.data", message)
        draws = self.phase.draws
        if target.split == Split.HELD_OUT and (draws is None or draws.scheme == FRACTION or target.data not in (SAME_DATA, *cards)):
            message = (
                "'held_out' is what a fold leaves out of the training card: set draws.scheme to kfold or leave_pair_out, and data to same"
            )
            raise fault(self.scene.sweep, f"{path}.split", message)
        card = next(iter(cards)) if target.data == SAME_DATA else target.data
        if not self.scene.resolver.labels(card):
            raise fault(self.scene.sweep, f"{path}.data", f"data '{card}' has no labels to score against: name a card with labels")
        if (task := self.scene.resolver.task(card)) not in ("", *self.writer.declaration.tasks):
            raise fault(self.scene.sweep, f"{path}.data", of_another_task(card, task, self.writer.declaration))
        self._check_embedding(index, target)
        if target.arrays and task == "segmentation":
            message = f"data '{card}' has masks, and arrays are of labels: leave `arrays` out"
            raise fault(self.scene.sweep, f"{path}.outputs", message)
        if target.thresholds and task == "segmentation":
            raise fault(self.scene.sweep, f"{path}.thresholds", f"data '{card}' has masks, and thresholds are of labels: leave it out")
        self._check_heads(index, target, cards)
        return card

    def _check_heads(self, index: int, target: Target, cards: tuple[str, ...]) -> None:
        """Refuse a choice of heads where there is one, and a source that the phase does not have."""
        path, trainer = f"phases.{self.phase.name}.evaluate[{index}].heads", self.writer.declaration
        if target.heads is not None and trainer.by_source is None:
            raise fault(self.scene.sweep, path, f"trainer '{trainer.name}' has one head for all labels: leave heads out")
        known = (*_HEADS, *cards)
        if target.heads is not None and target.heads not in known:
            raise fault(self.scene.sweep, path, f"'{target.heads}' is no source{suggest(target.heads, known, what='there are')}")

    def _check_embedding(self, index: int, target: Target) -> None:
        """Refuse embeddings that the trainer does not have, and those of several checkpoints at once."""
        if target.embedding is None:
            return
        path, trainer, pick = f"phases.{self.phase.name}.evaluate[{index}]", self.writer.declaration, self.phase.pick
        if not trainer.embeddings:
            message = f"trainer '{trainer.name}' has no embeddings: leave `embeddings` out"
            raise fault(self.scene.sweep, f"{path}.outputs", message)
        if target.embedding not in trainer.embeddings:
            there = " or ".join(trainer.embeddings)
            raise fault(self.scene.sweep, f"{path}.embedding", f"trainer '{trainer.name}' embeds by {there}: write embedding: {there}")
        if pick is not None and any(taken != _ONE for taken in _taken_by(pick)):
            message = "the pick may hand on several checkpoints, and embeddings are of one: leave checkpoints, top and per out of the pick"
            raise fault(self.scene.sweep, f"{path}.outputs", message)

    def _evaluate(self, winner: Winner, target: Target, card: str, shown: str) -> JobSpec:
        draw = winner.point.replicate.draw if target.split == Split.HELD_OUT else None
        data, resolved = self._data_of(card, draw)
        reference = self.scene.resolver.data(card)
        units = {name: getattr(target, name) or reference.defaults.get(name) for name in _UNITS}
        # What predictions carry of each unit is in the id: a trait that is declared later is evaluated, and no other id changes.
        traits: dict[str, Json] = {"traits": dict(sorted(reference.traits.items()))} if reference.traits else {}
        embedded: dict[str, Json] = {} if target.embedding is None else {"embeddings": target.embedding}
        arrays: dict[str, Json] = {"arrays": True} if target.arrays else {}
        limits: dict[str, Json] = {} if target.thresholds is None else {"thresholds": target.thresholds}
        heads: dict[str, Json] = {} if target.heads in (None, _HEADS[0]) else {"heads": target.heads}
        labels = {**winner.labels, TARGET: shown}
        return self.writer.write(
            Stage.EVALUATE,
            Face(
                trial=f"{self.phase.name}/{labels_text(labels)}",
                labels=labels,
                resources=self.phase.resources,
                resolved=resolved and winner.pick.resolved,
            ),
            config=Content.of({"split": target.split, "run": winner.run, **units, **traits, **embedded, **arrays, **limits, **heads}),
            data=data,
            inputs=(Input(role="pick", job=winner.pick.job_id, take="choice", run=winner.run),),
        )

    def _data_of(self, card: str, draw: Mapping[str, Json] | None) -> tuple[Content, bool]:
        key = (card, None if draw is None else tuple(draw.items()))
        if key not in self._data:
            self._data[key] = data_content([self.scene.resolver.data(card)], draw, self.phase.missing)
        return self._data[key]


def _taken_by(pick: Pick) -> Iterator[tuple[Json, ...]]:
    """Yield what a pick takes of its runs: checkpoints, top and per, for all and for those that carry certain labels."""
    for settings in ({}, *(case.settings for case in pick.when)):
        yield tuple(settings.get(name, getattr(pick, name)) for name in ("checkpoints", "top", "per"))
