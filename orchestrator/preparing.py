"""`orchestrate data prepare`: the images that a plan's jobs will read, or those of one card, decoded before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs.spec import JobSpec, Json, canonical_json
from jobs.stages import data_root
from orchestrator.errors import DataError
from orchestrator.model import Plan
from orchestrator.workspace import Workspace

if TYPE_CHECKING:
    from trainers.data.images import Gallery, Prepared

#: The key of a trainer's config that says how large its images are.
_PX = "px"
#: The key that says which share of the side of an image a view is.
_CROP_PCT = "crop_pct"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A data set at a size, as jobs refer to it."""

    source: Mapping[str, Json]
    px: int


def wanted_of(plan: Plan) -> list[Wanted]:
    """Return every data set of a plan with each size that jobs read it at: a job without a size has those of the jobs it comes from."""
    jobs = plan.by_id()
    found: dict[str, Wanted] = {}
    for job in plan.jobs:
        for source in job.data.get("sources", ()):
            for px in _sizes(job, jobs):
                found.setdefault(canonical_json([source["card"], source.get("made"), px]), Wanted(source=source, px=px))
    return sorted(found.values(), key=lambda one: (one.source["card"], one.px))


def _sizes(job: JobSpec, jobs: Mapping[str, JobSpec]) -> set[int]:
    if _PX in job.config:
        from trainers.data.sides import side_of

        return {side_of(int(job.config[_PX]), float(job.config.get(_CROP_PCT, 1)))}
    return {px for one in job.inputs if one.job in jobs for px in _sizes(jobs[one.job], jobs)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """The images of one data set at one size, and how many of them there are."""

    gallery: Gallery
    px: int

    @property
    def title(self) -> str:
        """Return what a person calls it."""
        return f"{self.gallery.card} at {self.px} px"

    @property
    def images(self) -> int:
        """Return how many images there are."""
        return len(self.gallery.names)


def items_of(wanted: Sequence[Wanted], workspace: Workspace) -> list[Item]:
    """Return the images behind data references; a union gives those of its members. Raises DataError."""
    from trainers.data.cards import load_card
    from trainers.data.located import locate
    from trainers.data.open import gallery_of

    found: dict[tuple[str, int], Item] = {}
    for one in wanted:
        card = load_card(one.source["card"], workspace.cluster.card_paths)
        place = locate(card, lambda name, one=one: data_root(one.source, name, workspace.machine()), workspace.cluster.card_paths)
        for part in place.members.values() or (place,):
            gallery = gallery_of(part, part.index())
            found.setdefault((gallery.key(one.px), one.px), Item(gallery=gallery, px=one.px))
    return list(found.values())


def prepare_items(
    items: Sequence[Item], workspace: Workspace, *, workers: int, done: Callable[[Item, int], None]
) -> Iterator[tuple[Item, Prepared]]:
    """Decode what is not decoded yet, data set by data set, once there is room for all. Raises DiskFull, DataError."""
    from trainers.data.images import prepare, room_for

    cache = workspace.run.cache.absolute()
    for item in items:
        room_for(item.gallery, item.px, cache)
    for item in items:
        yield item, prepare(item.gallery, item.px, cache, workers=workers, again=True, done=lambda images, item=item: done(item, images))


def wanted_card(name: str, px: int, workspace: Workspace) -> Wanted:
    """Return a card at a size. Raises DataError when there is no such card, or it is made for each sweep anew."""
    from trainers.data.cards import load_card

    card = load_card(name, workspace.cluster.card_paths)
    if card.made.get("always"):
        raise DataError(f"'{name}' is made by each sweep that uses it, with its own parameters: `orchestrate data prepare SWEEP`")
    return Wanted(source={"card": name}, px=px)
