"""Made data in the layout of a card, read back through the card."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from trainers.data.cards import Card, load_card
from trainers.data.located import Located, locate
from trainers.data.phantom.layout import write_made
from trainers.data.phantom.parameters import parameters_from


def made(folder: Path, card: Card, **changes: Any) -> Located:
    """Write made data as a card says it is made, a few patients of it, and return the card with its place."""
    wanted = {**card.made.get("parameters", {}), "patients_train": 14, "patients_valid": 6, "px": 32, "max_studies": 2, **changes}
    write_made(folder / card.name, parameters_from(wanted), str(card.made.get("layout", card.reader)))
    return Located(card=card, root=folder / card.name)


def placed(name: str, root: Path, **changes: Any) -> Located:
    """Return a shipped card, changed, with its place."""
    return replace(locate(load_card(name), lambda place: root), card=replace(load_card(name), **changes))
