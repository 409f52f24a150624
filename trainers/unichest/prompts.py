"""What a network is asked: the text of each label, one for all cards that mean the same by it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trainers.errors import Error

FILE = Path(__file__).with_name("prompts.yaml")
Wording = Literal["union", "card"]


@functools.cache
def table() -> Mapping[str, Any]:
    """Return `prompts.yaml`: concepts, synonyms, cards."""
    import yaml

    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompts:
    """How labels become concepts, and these texts; `ask` is the config's own text of a label, before any table's."""

    ask: Mapping[str, str] = field(default_factory=dict)
    wording: Wording = "union"

    def concept(self, label: str) -> str:
        """Return the concept that a label of any card stands for: itself unless it is a synonym, or a text of its own is asked."""
        return label if label in self.ask else table()["synonyms"].get(label, label)

    def concepts(self, cards: Sequence[Sequence[str]]) -> tuple[str, ...]:
        """Return the concepts of all labels of some cards, each once, in the order of the cards. Raises Error for one that repeats."""
        for labels in cards:
            _refuse_twice([(self.concept(label), label) for label in labels])
        return tuple(dict.fromkeys(self.concept(label) for labels in cards for label in labels))

    def text(self, label: str, card: str = "") -> str:
        """Return what a label of a card is asked by; of no card, what training asks by."""
        if label in self.ask:
            return self.ask[label]
        if self.wording == "card" and label in (own := table()["cards"].get(card, {})):
            return own[label]
        concept = self.concept(label)
        return table()["concepts"].get(concept, concept.replace("_", " "))


def _refuse_twice(named: Sequence[tuple[str, str]]) -> None:
    seen: dict[str, str] = {}
    for concept, label in named:
        if (other := seen.setdefault(concept, label)) != label:
            raise Error(
                f"config.ask: labels '{other}' and '{label}' of one card are both the concept '{concept}': give one a text of its own, "
                f"ask: {{{label}: ...}}"
            )
