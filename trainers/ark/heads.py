"""Which head says what: each source's own in training, and on another card the mean of all heads that have a label."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from torch import Tensor

from trainers.api import Source
from trainers.ark.config import Config
from trainers.ark.material import is_exclusive
from trainers.ark.network import ALL, Network
from trainers.errors import DataError, Error
from trainers.parts.losses import log_odds
from trainers.parts.metrics import mean_probability

#: Values of `Setup.heads` that are no source.
AUTO, MEAN = "auto", "mean"


class Outputs:
    """The heads of a network over sources, which share a label where they call it by the same name."""

    def __init__(self, sources: Mapping[str, Source], config: Config, *, choice: str = AUTO) -> None:
        self.sources = dict(sources)
        self._choice = choice
        self.cards = tuple(self.sources)
        self._single = config.mode == "single_head"
        #: By source: whether its labels are the classes of one softmax.
        self.exclusive = tuple(is_exclusive(source.task, config) for source in self.sources.values())

    @cached_property
    def heads(self) -> dict[str, tuple[str, ...]]:
        """Return the heads by name, with their labels."""
        if self._single:
            return {ALL: tuple(dict.fromkeys(label for source in self.sources.values() for label in source.labels))}
        return {card: source.labels for card, source in self.sources.items()}

    def logits(self, network: Network, embedding: Tensor, source: int) -> Tensor:
        """Return the logits of a source's labels, (B, C)."""
        card = self.cards[source]
        if not self._single:
            return network.logits(embedding, card)
        return network.logits(embedding, ALL)[:, [self.heads[ALL].index(label) for label in self.sources[card].labels]]

    def predicted(self, card: str, labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return which labels of a card some source has. Raises DataError when none is."""
        if self._choice not in (AUTO, MEAN, *self.cards):
            raise Error(f"heads: there is none for '{self._choice}', the model learnt from {', '.join(self.cards)}: name one, auto or mean")
        known = tuple(label for label in labels if self.asked(card, label))
        if not known:
            asked = ", ".join(self.cards) if self._choice in (AUTO, MEAN) else self._choice
            raise DataError(f"card '{card}' has no label that a source of the model has ({asked}): evaluate on a card that shares one")
        return known

    def are_classes(self, card: str) -> bool:
        """Tell whether a card's labels are predicted as the classes of one softmax: by its own head alone."""
        own = self._choice in (AUTO, card)
        return own and card in self.sources and self.exclusive[self.cards.index(card)]

    def asked(self, card: str, label: str) -> tuple[str, ...]:
        """Return the sources whose heads predict a label on a card: the card's own, all that have it, or the one that was asked for."""
        having = tuple(name for name, source in self.sources.items() if label in source.labels)
        if self._choice == AUTO:
            return (card,) if card in having else having
        return having if self._choice == MEAN else tuple(name for name in having if name == self._choice)

    def scores(self, network: Network, embedding: Tensor, card: str, labels: tuple[str, ...]) -> np.ndarray:
        """Return scores (B, len(labels)) float32, whose sigmoids are probabilities; of several heads, of the mean probability."""
        wanted = dict.fromkeys(name for label in labels for name in self.asked(card, label))
        by_source = {name: self._own(network, embedding, name) for name in wanted}
        columns = [
            mean_probability([by_source[name][:, self.sources[name].labels.index(label)] for name in self.asked(card, label)])
            for label in labels
        ]
        return np.stack(columns, axis=1)

    def _own(self, network: Network, embedding: Tensor, card: str) -> np.ndarray:
        source = self.cards.index(card)
        logits = self.logits(network, embedding, source).float()
        return (log_odds(logits) if self.exclusive[source] else logits).cpu().numpy()
