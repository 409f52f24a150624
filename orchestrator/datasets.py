"""Data sets as commands see them: what is known, where it is here, whether it is right, and making what is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from jobs.spec import Json, canonical_json
from jobs.stages import data_root, made_folder, made_parts
from orchestrator.errors import DataError
from orchestrator.model import Plan
from orchestrator.workspace import Workspace


def listed(workspace: Workspace) -> list[dict[str, Json]]:
    """Return every card with where its data is on this machine."""
    from trainers.data.cards import list_cards, load_card

    rows: list[dict[str, Json]] = []
    for name in list_cards(workspace.cluster.card_paths):
        card = load_card(name, workspace.cluster.card_paths)
        if card.made.get("always"):
            where = "made here"
        elif card.shipped_root is not None:
            where = "comes with this package"
        else:
            where = _where(workspace, card.place)
        rows.append({"card": name, "title": card.title, "where": where, "labels": len(card.labels), "licence": card.licence})
    return rows


def _where(workspace: Workspace, place: str) -> str:
    try:
        root = data_root({"card": place}, place, workspace.machine())
    except DataError:
        return "not named in the cluster config"
    return str(root) if root.exists() else f"missing: {root}"


def made_sources(plan: Plan) -> list[dict[str, Json]]:
    """Return each made data set that a plan's jobs read, once."""
    sources = (source for job in plan.jobs for source in job.data.get("sources", ()) if source.get("made"))
    parts = (part for source in sources for part in made_parts(source))
    return list({canonical_json([part["card"], part["made"]]): dict(part) for part in parts}.values())


def make_data(plan: Plan, workspace: Workspace, *, say: Callable[[str], None] = lambda text: None) -> Iterable[Path]:
    """Write every made data set of a plan that is not there yet, and return their folders. Raises DataError, DiskFull."""
    from trainers.data.phantom.layout import write_made
    from trainers.data.phantom.layout_names import CHEXPERT
    from trainers.data.phantom.parameters import parameters_from

    folders: list[Path] = []
    for source in made_sources(plan):
        folder = made_folder(source, workspace.cluster.made_root.absolute())
        if not (folder / "MADE.json").exists():
            say(f"making data for '{source['card']}' in {folder}")
        write_made(folder, parameters_from(source["made"]["parameters"]), source["made"].get("layout", CHEXPERT))
        folders.append(folder)
    return folders
