"""What UniChest learns from: the images of all sources in one list, their targets by concept, and a text of each."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.api import Setup
from trainers.data import transforms
from trainers.data.access import Access, ImageStore, Rows
from trainers.data.policies import targets
from trainers.data.streams import key
from trainers.errors import DataError
from trainers.sources import number_of, refuse_source
from trainers.unichest import views
from trainers.unichest.config import Config
from trainers.unichest.prompts import Prompts
from trainers.unichest.reports import of_labels, of_report, read_reports

_LOG = logging.getLogger(__name__)
_ORDER, _MIX = 31, 32
_CARD = "card"
_NORMAL = "no_finding"


class Material:
    """The training images of several sources. Raises DataError or Error naming the source that cannot be learnt from."""

    def __init__(self, setup: Setup, prompts: Prompts) -> None:
        self.config: Config = setup.config
        self.seed = setup.seed
        self.accesses: tuple[Access, ...] = setup.sources
        for access in self.accesses:
            refuse_source(access, "unichest")
        self.stores: list[ImageStore] = [access.images(self.config.px) for access in self.accesses]
        self._numbers = [number_of(access.card) for access in self.accesses]
        #: What training asks: the union of the sources' labels.
        self.concepts = prompts.concepts([access.label_names for access in self.accesses])
        rows = [access.rows("train") for access in self.accesses]
        #: Of every image: its source, and its position there.
        self.source = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
        self.position = np.concatenate([one.position for one in rows])
        #: 1, 0, a soft target, or NaN where nothing is known, and wherever the source has no such label.
        self.targets = np.full((len(self.position), len(self.concepts)), np.nan, np.float32)
        for index, (one, access) in enumerate(zip(rows, self.accesses, strict=True)):
            columns = [self.concepts.index(prompts.concept(label)) for label in access.label_names]
            self.targets[np.ix_(self.source == index, np.array(columns))] = targets(one, policies_of(access, self.config))
        #: Of each source, how many training images have the text of a report.
        self.told: dict[str, int] = {}
        self.texts, self.text_of = self._texts(rows, prompts, setup.weights.get("reports"))
        self.batch_size = min(self.config.batch_size, len(self.source))

    def _texts(self, rows: list[Rows], prompts: Prompts, file: Path | None) -> tuple[list[str], NDArray[np.int64]]:
        """Return every text once, sorted, and which of them each image has."""
        reports = read_reports(file) if file is not None else {}
        if strange := sorted(set(reports) - {access.card for access in self.accesses}):
            raise DataError(f"{file}: '{strange[0]}' is no source; there are {', '.join(access.card for access in self.accesses)}")
        found: list[str] = []
        own = [self._of_card(access, one) for access, one in zip(self.accesses, rows, strict=True)]
        if self.config.texts == "reports" and not reports and all(known is None for known in own):
            raise DataError(
                f"config.texts: none of {', '.join(access.card for access in self.accesses)} has reports: name a card that does, such as "
                "mimic_cxr_reports or openi, or a JSON file under reports, or set texts: labels"
            )
        for index, (one, of_card) in enumerate(zip(rows, own, strict=True)):
            given = reports.get(one.card, {})
            known = [given.get(image, given.get(study)) for image, study in zip(one.images.tolist(), one.studies.tolist(), strict=True)]
            if given and all(text is None for text in known):
                raise DataError(f"{file}: none of its reports of '{one.card}' is of one of its training images or studies")
            if of_card is not None:
                known = [other if text is None else text for text, other in zip(known, of_card, strict=True)]
            self._tell(one.card, known, asked=bool(given) or self.config.texts == "reports")
            named = self._of_labels(index, prompts)
            found += [by_label if text is None else text for text, by_label in zip(known, named, strict=True)]
        texts = sorted(set(found))
        place = {text: index for index, text in enumerate(texts)}
        return texts, np.array([place[text] for text in found], dtype=np.int64)

    def _of_card(self, access: Access, rows: Rows) -> list[str | None] | None:
        """Return what the card's own reports say, None of an image whose report says nothing; None in all where there are none."""
        told = access.reports(rows) if self.config.texts == "reports" else None
        if told is None:
            return None
        read = {text: of_report(text) or None for text in set(told) if text is not None}
        if not any(read.values()):
            raise DataError(f"data set '{access.card}': no report of a training image says anything: copy them again from the release")
        return [None if text is None else read[text] for text in told]

    def _tell(self, card: str, known: list[str | None], *, asked: bool) -> None:
        """Remember how many images have a report, and say it where some have none."""
        without = sum(text is None for text in known)
        self.told[card] = len(known) - without
        if asked and without:
            _LOG.warning("%d of %d training images of %s have no report: their texts come of labels", without, len(known), card)

    def _of_labels(self, source: int, prompts: Prompts) -> list[str]:
        asked = [prompts.text(concept) for concept in self.concepts]
        empty = of_labels([prompts.text(_NORMAL)]) if self.config.without_positives == "normal" else ""
        positive = self.targets[self.source == source] == 1
        return [of_labels([asked[column] for column in np.flatnonzero(row)]) or empty for row in positive]

    @cached_property
    def steps(self) -> int:
        """Return how many steps an epoch has: whole batches; what is left over is dropped."""
        return len(self.source) // self.batch_size

    def order(self, epoch: int, start: int = 0) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield the steps of an epoch from step `start` with their images, all sources mixed, a pure function of (seed, epoch)."""
        shuffled = _generator(self.seed, _ORDER, epoch).permutation(len(self.source))
        for step in range(start, self.steps):
            yield step, shuffled[step * self.batch_size : (step + 1) * self.batch_size]

    def mix(self, epoch: int, step: int) -> tuple[NDArray[np.int64], NDArray[np.float32]] | None:
        """Return whom each image of a batch is mixed with, and with which share of its own amplitude; None where none is."""
        generator = _generator(self.seed, _MIX, epoch, step)
        if self.config.fourier == "off" or generator.random() > self.config.fourier_p:
            return None
        return generator.permutation(self.batch_size), generator.random(self.batch_size).astype(np.float32)

    def views(self, images: NDArray[np.int64], epoch: int, part: slice = slice(None)) -> Tensor:
        """Return one view of each image, uint8 (n, 1, px, px), of whatever sources they are."""
        here, px = images[part], self.config.px
        found = np.empty((len(here), 1, px, px), np.uint8)
        for source in sorted(set(self.source[here].tolist())):
            where = np.flatnonzero(self.source[here] == source)
            store, positions, number = self.stores[source], self.position[here[where]], self._numbers[source]
            if self.config.augment == "published":
                found[where] = views.published(store, positions, px, seed=self.seed, epoch=epoch, source=number)
            else:
                augment = transforms.AUGMENTS[self.config.augment]
                found[where] = transforms.batch(store, positions, px, augment, seed=self.seed, epoch=epoch, view=number)
        return torch.from_numpy(found)


def policies_of(access: Access, config: Config) -> Mapping[str, str]:
    """Return the label policies of a source: its card's, or what the config says of uncertain labels in their place."""
    if config.uncertain == _CARD:
        return access.policies
    return {name: value for name, value in access.policies.items() if not name.startswith("uncertain/")} | {"uncertain": config.uncertain}


def _generator(*parts: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=key(*parts)))
