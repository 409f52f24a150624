"""`data verify`: a data set against its card, and training images against test images, with a bar for people and a file for machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.paths import write_atomically
from jobs.spec import Json, Split, Stage, pretty_json
from jobs.stages import data_root
from orchestrator.errors import DataError
from orchestrator.workspace import Workspace

if TYPE_CHECKING:
    from trainers.data.located import Located
    from trainers.data.looking import Step
    from trainers.data.verify import Check, Role

#: How many images are opened where not all are.
SAMPLED = 200
_SEEN = ("train", "val")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """What a card or a sweep brings to a comparison: what training opens, and what is scored."""

    trained: tuple[Role, ...] = ()
    tested: tuple[Role, ...] = ()


def verify(workspace: Workspace, wanted: str, *, every_image: bool = False, against: Sequence[str] = (), step: Step | None = None) -> Check:
    """Check a card's data, or what the training of a sweep shares with its test sets.

    Raises DataError when there is no such card or no place for it, SweepError for a sweep that is wrong.
    """
    from trainers.data.verify import Check

    check = Check(cache=workspace.run.cache)
    if step is not None:
        check.step = step
    others = [sides(workspace, name) for name in against]
    if is_sweep(wanted):
        mine = sides(workspace, wanted)
        others.insert(0, mine)
    else:
        check.card(_present(workspace, wanted), sample=None if every_image else SAMPLED)
        mine = sides(workspace, wanted) if others else Sides()
    done: set[tuple[str, str, tuple[str, ...]]] = set()
    for other in others:
        for trained, tested in [*_pairs(mine, other), *_pairs(other, mine)]:
            key = (trained.name, tested.name, tested.splits)
            if key not in done:
                done.add(key)
                check.against(trained, tested)
    if is_sweep(wanted) and not done:
        raise DataError(f"{wanted} scores no test set, so there is nothing to compare: verify its cards one by one")
    return check


def _pairs(one: Sides, other: Sides) -> Iterator[tuple[Role, Role]]:
    """Yield what is compared: a test set with what training opens, of the same card too."""
    for trained in one.trained:
        for tested in other.tested:
            if trained.name != tested.name or not set(trained.splits) & set(tested.splits):
                yield trained, tested


def is_sweep(name: str) -> bool:
    """Tell a sweep file from the name of a card."""
    return name.endswith((".yaml", ".yml"))


def sides(workspace: Workspace, name: str) -> Sides:
    """Return what a card, or a sweep's plan, trains on and scores. Raises DataError or SweepError."""
    from trainers.data.verify import Role

    if is_sweep(name):
        return _sides_of_sweep(workspace, Path(name))
    place = _present(workspace, name)
    has_test = Split.TEST in place.card.split_names
    return Sides(
        trained=(Role(name=name, splits=_SEEN, place=place),),
        tested=(Role(name=name, splits=(str(Split.TEST),), place=place),) if has_test else (),
    )


def _sides_of_sweep(workspace: Workspace, sweep: Path) -> Sides:
    from trainers.data.verify import Role

    plan = workspace.plan(sweep)
    trained: dict[str, Role] = {}
    tested: dict[tuple[str, str], Role] = {}
    places: dict[str, Located] = {}
    for job in plan.jobs:
        for source in job.data.get("sources", ()):
            name = source["card"]
            if name not in places:
                places[name] = there(
                    workspace, name, source, f"make it first: orchestrate data prepare {sweep}{' --sample' if workspace.sample else ''}"
                )
            if job.stage is Stage.TRAIN:
                trained[name] = Role(name=name, splits=_SEEN, place=places[name])
            elif job.stage is Stage.EVALUATE and job.config["split"] != Split.HELD_OUT:
                split = str(job.config["split"])
                tested[name, split] = Role(name=name, splits=(split,), place=places[name])
    return Sides(trained=tuple(trained.values()), tested=tuple(tested.values()))


def _present(workspace: Workspace, name: str) -> Located:
    from trainers.data.cards import load_card

    card = load_card(name, workspace.cluster.card_paths)
    if card.made.get("always"):
        raise DataError(f"'{name}' is made by sweeps that use it, each with its own parameters; verify such a sweep")
    return there(workspace, name, {"card": name}, "")


def there(workspace: Workspace, name: str, source: Mapping[str, Json], otherwise: str) -> Located:
    """Return a card with its place. Raises DataError, saying what to type, when nothing is there."""
    from trainers.data.cards import load_card
    from trainers.data.located import locate

    card = load_card(name, workspace.cluster.card_paths)
    located = locate(card, lambda place: data_root(source, place, workspace.machine()), workspace.cluster.card_paths)
    for one in located.members.values() or (located,):
        if one.root is not None and not one.root.exists():
            correct = f"correct `data: {{{one.card.place}: ...}}` in cluster config '{workspace.cluster.name}'"
            raise DataError(f"data '{name}' is not at {one.root}: {otherwise if source.get('made') else correct}")
    return located


@contextmanager
def bar() -> Iterator[Step]:
    """Show a bar on a terminal while images are opened; nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from orchestrator.console import out

    console = out()
    shown = Progress(
        TextColumn("images"), BarColumn(bar_width=32), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True,
        disable=not console.is_terminal,
    )  # fmt: skip
    task = shown.add_task("images", total=None)
    with shown:
        yield lambda done, total: shown.update(task, completed=done, total=total)


def record(check: Check, wanted: str) -> dict[str, Json]:
    """Return a check for machines."""
    from trainers.data.fingerprints import BITS, LEAST_CORRELATION, MOST_DIFFERENT_BITS

    return {
        "verified": wanted,
        "errors": sum(one.level == "error" for one in check.findings),
        "warnings": sum(one.level == "warning" for one in check.findings),
        "findings": [asdict(one) for one in check.findings],
        "same_image": {"bits": BITS, "most_different_bits": MOST_DIFFERENT_BITS, "least_rank_correlation": LEAST_CORRELATION},
        "copies": [asdict(one) for one in check.copies],
    }


def write(check: Check, wanted: str, file: Path) -> tuple[Path, Path]:
    """Write a check as JSON, and beside it as Markdown. Raises DataError when the folder is not there."""
    short = file.with_suffix(".md")
    if not file.parent.is_dir() or short == file:
        reason = "is Markdown's own name; name it .json" if short == file else f"cannot be written: there is no folder {file.parent}"
        raise DataError(f"{file} {reason}")
    write_atomically(file, pretty_json(record(check, wanted)).encode())
    write_atomically(short, markdown(check, wanted).encode())
    return file, short


def markdown(check: Check, wanted: str) -> str:
    """Return a check in short."""
    lines = [f"# {wanted}", "", "| level | finding |", "| :-- | :-- |"]
    lines += [f"| {one.level} | {one.text.replace('|', chr(92) + '|')} |" for one in check.findings]
    for one in (found for found in check.copies if found.pairs):
        lines += ["", f"## Images that are the same: {one.first} and {one.second}", ""]
        lines += ["| first | split | second | split | different bits | rank correlation |", "| :-- | :-- | :-- | :-- | --: | --: |"]
        lines += [
            f"| {pair.first.image} | {pair.first.split} | {pair.second.image} | {pair.second.split} | {pair.bits} | {pair.correlation} |"
            for pair in one.pairs
        ]
    return "\n".join(lines) + "\n"
