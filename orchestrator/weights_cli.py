"""The commands `orchestrate weights ...`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.arguments import AsJson, print_json

weights_app = typer.Typer(help="Weights files: what is in one, and one as another format.", no_args_is_help=True)

WeightsFile = Annotated[Path, typer.Argument(metavar="FILE", help="A weights file: .pth, .pth.tar, .pt or .safetensors.")]


@weights_app.command("inspect")
def weights_inspect(file: WeightsFile, as_json: AsJson = False) -> None:
    """Say what a weights file is: format, architecture, head, epoch, and whether its name says the same.

    Example: orchestrate weights inspect r8w-00001.pth.tar
    """
    from orchestrator.weights_files import lines_of_summary, released, told_of

    found = released("inspecting").inspect(file, told_of(file)).as_json()
    if as_json:
        print_json(found)
        return
    for line in lines_of_summary(found):
        typer.echo(line)


@weights_app.command("convert")
def weights_convert(
    file: WeightsFile,
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="torchvision, timm, moco_cxr, facebook_moco, simmim or cxr (ours).")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where to write; without it, beside FILE, named by it.")] = None,
    arch: Annotated[str, typer.Option(metavar="NAME", help="timm's or torchvision's name; without it, told from the shapes.")] = "",
    part: Annotated[
        str,
        typer.Option(metavar="NAME", help="Which of several networks: query, key, base, momentum, teacher or student."),
    ] = "",
    channels: Annotated[
        int | None, typer.Option(min=1, max=3, metavar="1|3", help="Input channels; without it, what readers of the format expect.")
    ] = None,
    keep_head: Annotated[bool, typer.Option("--keep-head", help="Write the head too, where the format has a place for it.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a file's network as another format: every key used or named as dropped, and the file tried before it is kept.

    Example: orchestrate weights convert r8w-00001.pth.tar --to torchvision
    """
    from orchestrator.weights_files import lines_of_conversion, released, told_of

    converting = released("converting")
    options = converting.Options(to=to, out=out, arch=arch, part=part, channels=channels, keep_head=keep_head, overwrite=overwrite)
    done = converting.convert(file, options, told_of(file)).as_json()
    if as_json:
        print_json(done)
        return
    for line in lines_of_conversion(done):
        typer.echo(line)
