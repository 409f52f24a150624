"""`data draws`: the labelled subsets that a sweep's jobs learn from, in the columns of the original label files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.paths import write_atomically
from jobs.spec import Json, Stage, canonical_json, pretty_json
from jobs.stages import data_root
from orchestrator.errors import DataError
from orchestrator.verifying import is_sweep, there
from orchestrator.workspace import Workspace

if TYPE_CHECKING:
    from trainers.data.access import Access, Rows
    from trainers.data.located import Located

#: The parts of a data set that no draw touches. No label file is called so: as a list of a split each is found beside its card.
_PARTS = {"train": "all_train", "val": "all_val", "test": "all_test"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One draw of one card, and the first phase that asks for it ("" when no sweep does)."""

    card: str
    source: Mapping[str, Json]
    draw: Mapping[str, Json]
    phase: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A draw as it came out."""

    asked: Asked
    name: str
    rows: Rows
    held_out: Rows | None
    facts: Mapping[str, Any]
    place: Located

    def line(self) -> dict[str, Json]:
        """Return the draw for machines."""
        return {"file": f"{self.name}.csv", "card": self.asked.card, "phase": self.asked.phase, "draw": dict(self.asked.draw), **self.facts}


def asked_by(workspace: Workspace, sweep: Path) -> list[Asked]:
    """Return every draw of a sweep's jobs once. Raises SweepError; DataError when it draws nothing."""
    found: dict[str, Asked] = {}
    for job in workspace.plan(sweep).jobs:
        draw = job.data.get("draw")
        if job.stage is Stage.TRAIN and draw is not None:
            for source in job.data["sources"]:
                asked = Asked(card=source["card"], source=source, draw=draw, phase=job.phase)
                found.setdefault(canonical_json([source["card"], source.get("made"), draw]), asked)
    if not found:
        raise DataError(f"{sweep} draws nothing: none of its phases has `draws`")
    return list(found.values())


def asked_for(
    card: str, *, fractions: Sequence[float], counts: Sequence[int], repeats: int, by: str, seed: int, nested: bool
) -> list[Asked]:
    """Return draws of a card as options name them. Raises DataError when they name no size."""
    sizes: list[dict[str, Json]] = [{"fraction": one} for one in fractions] + [{"count": one} for one in counts]
    if not sizes:
        raise DataError(f"no size to draw from '{card}': add --fraction 0.01 or --count 64, once or more, or name a sweep instead")
    rest: dict[str, Json] = {"scheme": "fraction", "by": by, "nested_fractions": nested, "seed": seed}
    return [Asked(card=card, source={"card": card}, draw={**rest, **size, "index": index}) for size in sizes for index in range(repeats)]


def drawn(workspace: Workspace, asked: Sequence[Asked], otherwise: str = "") -> Iterator[Draw]:
    """Apply draws, as jobs do. Raises DataError when data is not there or a draw cannot be had from it."""
    for one, name in zip(asked, _names(asked), strict=True):
        place = there(workspace, one.card, one.source, otherwise)
        access = _open(workspace, one.source, one.draw)
        rows, held_out = access.rows("train"), access.find("held_out")
        yield Draw(asked=one, name=name, rows=rows, held_out=held_out, facts=dict(access.draw_facts() or {}), place=place)


def export(workspace: Workspace, draws: Iterator[Draw], folder: Path) -> Iterator[Path]:
    """Write each draw, and once a card the parts that it is drawn from, and yield the files; `draws.json` says what each is.

    The draws of each card lie in a folder of its name, so that a file is called what the originals call it. Raises DataError.
    """
    from trainers.data.exporting import write_rows

    lines: list[dict[str, Json]] = []
    parts: set[str] = set()
    for one in draws:
        inner = folder / one.asked.card
        inner.mkdir(parents=True, exist_ok=True)
        if one.asked.card not in parts:
            parts.add(one.asked.card)
            yield from _parts(workspace, one, inner)
        files = {inner / f"{one.name}.csv": one.rows}
        if one.held_out is not None:
            files[inner / f"{one.name.replace('train', 'held_out', 1)}.csv"] = one.held_out
        for file, rows in files.items():
            write_rows(one.place, rows, file)
            yield file
        lines.append(one.line())
    listed = folder / "draws.json"
    write_atomically(listed, pretty_json(lines).encode())
    yield listed


def _parts(workspace: Workspace, one: Draw, folder: Path) -> Iterator[Path]:
    from trainers.data.exporting import write_rows

    access = _open(workspace, one.asked.source, None)
    for split, name in _PARTS.items():
        rows = access.find(split)
        if rows is not None and len(rows):
            write_rows(one.place, rows, folder / f"{name}.csv")
            yield folder / f"{name}.csv"


def _open(workspace: Workspace, source: Mapping[str, Json], draw: Mapping[str, Json] | None) -> Access:
    from trainers.data.open import open_data

    machine = workspace.machine()
    return open_data(
        source, draw, lambda place: data_root(source, place, machine), workspace.run.cache, lambda split: True, workspace.cluster.card_paths
    )


def _names(asked: Sequence[Asked]) -> list[str]:
    """Return the name of each draw: `train_semi_<fraction>-it<index>` as the originals have it, with what else differs behind it."""
    plain = [_name(one.draw) for one in asked]
    full = [f"{name}-by_{one.draw.get('by')}-seed{one.draw.get('seed', 0)}" for name, one in zip(plain, asked, strict=True)]
    if _distinct(asked, plain):
        return plain
    return full if _distinct(asked, full) else [f"{one.phase}-{name}-{at}" for at, (name, one) in enumerate(zip(full, asked, strict=True))]


def _distinct(asked: Sequence[Asked], names: Sequence[str]) -> bool:
    return len({(one.card, name) for one, name in zip(asked, names, strict=True)}) == len(asked)


def _name(draw: Mapping[str, Json]) -> str:
    if draw.get("scheme", "fraction") != "fraction":
        return f"train_fold{draw.get('fold', 0)}-it{draw.get('index', 0)}"
    size = f"n{draw['count']:g}" if draw.get("count") is not None else f"{draw['fraction']:g}"
    return f"train_semi_{size}-it{draw.get('index', 0)}"


__all__ = ["Asked", "Draw", "asked_by", "asked_for", "drawn", "export", "is_sweep"]
