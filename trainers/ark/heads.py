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
from trainers.errors import DataError
from trainers.parts.losses import log_odds
from trainers.parts.metrics import mean_probability


class Outputs:
    """The heads of a network over sources, which share a label where they call it by the same name."""

    def __init__(self, sources: Mapping[str, Source], config: Config) -> None:
        self.sources = dict(sources)
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
        if card in self.sources:
            return self.sources[card].labels
        known = tuple(label for label in labels if any(label in source.labels for source in self.sources.values()))
        if not known:
            raise DataError(
                f"card '{card}' has no label that a source of the model has ({', '.join(self.cards)}): evaluate on a card that shares one"
            )
        return known

    def are_classes(self, card: str) -> bool:
        """Tell whether a card's labels are predicted as the classes of one softmax: by its own head alone."""
        return card in self.sources and self.exclusive[self.cards.index(card)]

    def asked(self, card: str, label: str) -> tuple[str, ...]:
        """Return the sources whose heads predict a label on a card: the card's own, or all that have it."""
        return (card,) if card in self.sources else tuple(name for name, source in self.sources.items() if label in source.labels)

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
