"""The commands `orchestrate data ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.arguments import AsJson, Cluster, Sample, open_workspace, print_json
from orchestrator.console import Decoding
from orchestrator.exit_codes import EXIT_DONE, EXIT_PERSON

#: So many images that cannot be decoded are named.
_FAULTS_SHOWN = 20
data_app = typer.Typer(help="Data sets: what is known, what is on this machine, whether it is what its card says.", no_args_is_help=True)


Against = Annotated[
    list[str] | None,
    typer.Option(
        "--against", metavar="CARD|SWEEP", help="Look for its test images among what training there opens, and the other way round."
    ),
]


@data_app.command("list")
def data_list(cluster: Cluster = None, as_json: AsJson = False) -> None:
    """List the data sets that have a card, and where they are on this machine.

    Example: orchestrate data list
    """
    from orchestrator.datasets import listed

    rows = listed(open_workspace(cluster))
    if as_json:
        print_json(rows)
        return
    width = max((len(row["card"]) for row in rows), default=0)
    for row in rows:
        typer.echo(f"{row['card']:<{width}} {row['where']:<40} {row['title']}")


@data_app.command("verify")
def data_verify(
    wanted: Annotated[str, typer.Argument(metavar="CARD|SWEEP", help="A card; or a sweep file: its training against its test sets.")],
    cluster: Cluster = None,
    every_image: Annotated[bool, typer.Option("--all", help="Open every image, not 200, and look for images that are the same.")] = False,
    against: Against = None,
    file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write a file, and it in short as Markdown beside.")] = None,
    sample: Sample = False,
) -> None:
    """Check a data set on disk: label files, counts, patients across splits, unreadable images, images that are the same.

    With --against, a sweep file or other cards: images of training that are also among the test images.

    Example: orchestrate data verify chexpert --all --json chexpert.json
    """
    from orchestrator import verifying

    workspace = open_workspace(cluster, sample=sample)
    with verifying.bar() as step:
        check = verifying.verify(workspace, wanted, every_image=every_image, against=against or (), step=step)
    for one in check.findings:
        typer.echo(f"{one.level:<8} {one.text}")
    if file is not None:
        for written in verifying.write(check, wanted, file):
            typer.echo(str(written))
    raise typer.Exit(EXIT_PERSON if any(one.level == "error" for one in check.findings) else EXIT_DONE)


@data_app.command("draws")
def data_draws(
    wanted: Annotated[str, typer.Argument(metavar="SWEEP|CARD", help="A sweep file, or a card with sizes.")],
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="With --export: where to write.")] = None,
    export: Annotated[str | None, typer.Option("--export", help="csv: each draw in the columns of the original label file.")] = None,
    fraction: Annotated[list[float] | None, typer.Option("--fraction", help="With a card: a share of its training units.")] = None,
    count: Annotated[list[int] | None, typer.Option("--count", help="With a card: a number of its training units.")] = None,
    repeats: Annotated[int, typer.Option("--repeats", min=1, help="With a card: draws of each size.")] = 1,
    by: Annotated[str, typer.Option("--by", help="With a card: patient, study or image.")] = "patient",
    seed: Annotated[int, typer.Option("--seed", min=0, help="With a card: the seed of the draws.")] = 0,
    nested: Annotated[bool, typer.Option("--nested", help="With a card: smaller draws inside larger ones.")] = False,
    cluster: Cluster = None,
    sample: Sample = False,
    as_json: AsJson = False,
) -> None:
    """List the labelled subsets that jobs learn from, or write them as the files that other code reads.

    Of a sweep all its draws; of a card those that --fraction and --repeats ask for.

    Example: orchestrate data draws sweeps/moco_cxr_paper.yaml --export csv draws
    """
    from orchestrator import drawing

    if export not in (None, "csv"):
        raise typer.BadParameter(f"--export {export}: there is csv")
    if (export is None) != (folder is None):
        raise typer.BadParameter("--export csv and a folder to write to go together")
    workspace = open_workspace(cluster, sample=sample)
    if drawing.is_sweep(wanted):
        asked, otherwise = (
            drawing.asked_by(workspace, Path(wanted)),
            f"make it first: orchestrate data prepare {wanted}{' --sample' if sample else ''}",
        )
    else:
        sizes = {"fractions": fraction or (), "counts": count or ()}
        asked, otherwise = drawing.asked_for(wanted, **sizes, repeats=repeats, by=by, seed=seed, nested=nested), ""
    draws = drawing.drawn(workspace, asked, otherwise)
    if folder is not None:
        for file in drawing.export(workspace, draws, folder):
            typer.echo(str(file))
        return
    lines = [one.line() for one in draws]
    if as_json:
        print_json(lines)
        return
    for line in lines:
        counts = f"{line['n_patients']:>8,} patients {line['n_images']:>9,} images {line['n_positive_units']:>7,} positive"
        typer.echo(f"{line['card']:<24} {line['file']:<28} {counts}  {str(line['sha256'])[:12]}")


@data_app.command("prepare")
def data_prepare(
    sweep: Annotated[Path | None, typer.Argument(metavar="[SWEEP]", help="A sweep file: what its jobs read.")] = None,
    card: Annotated[str | None, typer.Option("--card", help="A data set card, instead of a sweep.")] = None,
    px: Annotated[int | None, typer.Option("--px", min=1, help="With --card: the short side of images.")] = None,
    workers: Annotated[int | None, typer.Option("--workers", min=1, help="Processes that decode; else one a CPU.")] = None,
    cluster: Cluster = None,
    sample: Sample = False,
) -> None:
    """Make the made data that a sweep asks for, and decode images once, before anything runs.

    Killed, it goes on where it was; several at once share the work. Jobs use what is decoded, and read the files of what is not.

    Example: orchestrate data prepare sweeps/quickstart.yaml
    """
    import os

    from orchestrator.datasets import make_data
    from orchestrator.preparing import items_of, prepare_items, wanted_card, wanted_of

    if (sweep is None) == (card is None) or (card is None) != (px is None):
        raise typer.BadParameter("give a sweep, or --card and --px")
    workspace = open_workspace(cluster, sample=sample)
    if card is not None and px is not None:
        wanted = [wanted_card(card, px, workspace)]
    else:
        assert sweep is not None
        plan = workspace.plan(sweep)
        for folder in make_data(plan, workspace):
            typer.echo(str(folder))
        wanted = wanted_of(plan)
    items = items_of(wanted, workspace)
    faults: list[str] = []
    with Decoding(items) as decoding:
        for item, prepared in prepare_items(items, workspace, workers=workers or len(os.sched_getaffinity(0)), done=decoding.add):
            decoding.say(f"{item.title}: {prepared.images:,} images, {prepared.bytes / 1e6:,.1f} MB in {prepared.folder}")
            faults += prepared.faults
    for fault in faults[:_FAULTS_SHOWN]:
        typer.echo(f"error    {fault}", err=True)
    if faults:
        more = f" ({len(faults) - _FAULTS_SHOWN:,} more than are shown)" if len(faults) > _FAULTS_SHOWN else ""
        typer.echo(f"{len(faults):,} images cannot be decoded{more}: whoever reads one of them stops there", err=True)
    raise typer.Exit(EXIT_PERSON if faults else EXIT_DONE)
