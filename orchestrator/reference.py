"""The reference, written from the code: `python -m orchestrator.reference > docs/reference.md`.

`python -m orchestrator.reference presets > docs/presets.md` writes what the presets of the trainers set;
`python -m orchestrator.reference help > tests/golden/help.txt` the help text of every command, as the tests pin it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
import typer.main

from jobs.catalog import Declaration, find_trainers
from orchestrator import exit_codes
from orchestrator.cli import app
from orchestrator.clusters import CLUSTER
from orchestrator.documents import read_document
from orchestrator.grammar.configs import fields_of, words_of
from orchestrator.grammar.keys import SWEEP
from orchestrator.key_tables import key_tables, shown_value, table
from orchestrator.preset_page import presets_page
from trainers.data.cards import SHIPPED, Card, Policy, list_cards, load_card

#: Help texts are pinned at this width, whatever the terminal.
WIDTH = 100
PROGRAM = "orchestrate"
EXAMPLE = "Example: "
#: Trainers from elsewhere are known to whoever installed them, and not to a page that is shared.
TREE = "trainers."
SWEEPS = Path(__file__).parents[1] / "sweeps"
READERS = SHIPPED.parent / "readers"
_TITLES = ("Commands", "Exit codes", "Sweeps", "Keys of a sweep", "Keys of a cluster config", "Trainers", "Data sets", "Layouts on disk")


def page() -> str:
    """Return the whole reference as Markdown."""
    bodies = (
        _commands(),
        _exit_codes(),
        _sweeps(),
        key_tables(SWEEP, "a sweep"),
        key_tables(CLUSTER, "a cluster config"),
        _trainers(),
        _cards(),
        _layouts(),
    )
    lines = [
        "# Reference",
        "",
        "Written from the code by `make docs`; a test holds it current. What the words mean is in [structure.md](structure.md).",
        "",
        *(f"- [{title}](#{title.lower().replace(' ', '-')})" for title in _TITLES),
    ]
    for title, body in zip(_TITLES, bodies, strict=True):
        lines += ["", f"## {title}", "", *body]
    return "\n".join(lines) + "\n"


def own_trainers() -> dict[str, Declaration]:
    """Return the trainers of this tree by name."""
    return {name: declaration for name, declaration in find_trainers().items() if declaration.package.startswith(TREE)}


# --- commands ---------------------------------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[Any, Any]]:
    """Yield the context and the command of the program, of its groups and of every command, in the order of the help text."""
    yield from _below(typer.main.get_command(app), PROGRAM, None)


def _below(command: Any, name: str, parent: Any) -> Iterator[tuple[Any, Any]]:
    context = command.context_class(command, info_name=name, parent=parent, terminal_width=WIDTH, **command.context_settings)
    yield context, command
    for below, child in getattr(command, "commands", {}).items():
        yield from _below(child, below, context)


def help_texts() -> str:
    """Return what `--help` of every command prints, without a terminal."""
    texts = [f"$ {context.command_path} --help\n{command.get_help(context).rstrip()}\n" for context, command in commands()]
    return "\n".join(texts)


def _commands() -> list[str]:
    lines = [
        f"`-h` and `--help` explain every command where it is typed. The cluster config is `local` unless `{PROGRAM}` is told another."
    ]
    for context, command in commands():
        about, example = split_help(command.help or "")
        lines += ["", f"### `{context.command_path}`", "", about]
        if example:
            lines += ["", "```", example, "```"]
        records = [record for one in command.get_params(context) if "--help" not in one.opts and (record := one.get_help_record(context))]
        if records:
            lines += ["", *table(("argument or option", "what it is for"), [(f"`{sign}`", words) for sign, words in records])]
    return lines


def split_help(text: str) -> tuple[str, str]:
    """Return what a command does, and its example line (empty when it has none)."""
    about, _, example = text.partition(EXAMPLE)
    return " ".join(about.split()), example.strip()


def _exit_codes() -> list[str]:
    return table(("code", "when"), [(f"`{code}`", words) for code, words in exit_codes.MEANINGS.items()])


def _sweeps() -> list[str]:
    rows: list[tuple[str, str, str]] = []
    for path in sorted(SWEEPS.glob("*.yaml")):
        content = read_document(path).plain()
        phases = ", ".join(f"{name} (`{phase['trainer']}`)" for name, phase in content.get("phases", {}).items() if "trainer" in phase)
        rows.append((f"`sweeps/{path.name}`", content.get("about", ""), phases))
    return ["Each answers one question, and runs small with `--sample`.", "", *table(("file", "question", "phases"), rows)]


# --- trainers ---------------------------------------------------------------------------------------------------------------------------


def _trainers() -> list[str]:
    lines = ["A trainer's keys stand under `config`, `compare` or `tune` of a phase. What is left out takes the default."]
    for name, declaration in own_trainers().items():
        lines += ["", f"### `{name}`", "", f"Version {declaration.version}. {declaration.about}", "", *_traits(declaration), ""]
        known = fields_of(declaration)
        rows = [(f"`{key}`", words_of(known.types[key]), _default(known.defaults, key), known.about.get(key, "")) for key in known.keys]
        lines += table(("key", "value", "default", "what it is for"), rows)
        if declaration.departures:
            rows = [(f"`{key}`", shown_value(theirs), shown_value(our), why) for key, (theirs, our, why) in declaration.departures.items()]
            lines += ["", "Where its defaults depart from the paper or its release:", ""]
            lines += table(("key", "paper or release", "here", "why"), rows)
        if declaration.presets:
            lines += ["", f"Presets: {_listed(declaration.presets)}, each told in [presets.md](presets.md)."]
    return lines


def _default(defaults: Mapping[str, Any], key: str) -> str:
    return shown_value(defaults[key]) if key in defaults else "must be given"


def _traits(declaration: Declaration) -> Iterator[str]:
    """Say what a trainer is besides its keys, one line of a list each."""
    if declaration.labels:
        yield f"- learns from labels, of cards whose task is {_listed(declaration.tasks)}"
    else:
        yield "- learns without labels, so a later phase is evaluated"
    if declaration.floor:
        yield "- a floor: the row that `report: {floor: true}` adds"
    if declaration.starts:
        yield f"- keys that name a start, and belong to the parent's job where there is a parent: {_listed(declaration.starts)}"
        yield f"- roles that a parent may take: {_listed(declaration.roles)}"
    if declaration.monitors:
        yield f"- metrics besides those of its labels: {_listed(declaration.monitors)}"
    if declaration.sample:
        yield "- with `--sample`: " + ", ".join(f"`{key}: {shown_value(value)}`" for key, value in declaration.sample.items())


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


# --- data sets --------------------------------------------------------------------------------------------------------------------------


def _cards() -> list[str]:
    lines = ["A card says what a data set's labels are, how it is split and how it is scored. Further cards lie in `card_paths`."]
    for name in list_cards():
        card = load_card(name)
        rows = [
            ("labels", ", ".join(f"`{label}`" + (" (primary)" if label == card.primary else "") for label in card.labels)),
            *((f"group `{group}`", _listed(labels)) for group, labels in card.groups.items()),
            ("uncertain and missing labels", _policies(card)),
            ("images", " and ".join(card.use_views)),
            ("scored", f"per {card.score_per}{_combined(card)}; intervals resample per {card.cluster}"),
            ("splits", splits_in_words(card)),
            ("label files", _listed(card.label_files)),
            *([("files whose names count", _listed(card.names_of))] if card.names_of else []),
            ("on disk", _on_disk(card)),
            ("licence", card.licence or "not said"),
            ("where it is from", card.where or "made by this package"),
        ]
        lines += ["", f"### `{name}`", "", f"{card.title}. {' '.join(card.about.split())}", "", *table(("", ""), rows)]
    return lines


def _layouts() -> list[str]:
    """Return what the readers say of how data lies on disk, as it stands at their head: nothing is imported for it."""
    lines = ["What the folder that a cluster config names has to look like. The readers `csv` and `folder` are for your own data."]
    readers = {name: load_card(name).reader for name in list_cards()}
    for file in sorted(READERS.glob("[a-z]*.py")):
        cards = [name for name, reader in readers.items() if reader == file.stem]
        said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        lines += ["", f"### Reader `{file.stem}`", "", "```text", *said.splitlines(), "```"]
        lines += ["", f"Cards: {_listed(cards)}."] if cards else []
    return lines


def _policies(card: Card) -> str:
    special = [f"`{label}`: {_policy(policy)}" for label, policy in card.label_policies.items()]
    return "; ".join([_policy(card.policy), *special])


def _policy(policy: Policy) -> str:
    said = {"ignore": "left out of the loss", "ones": "taken as positive", "zeros": "taken as negative"}
    return f"in training uncertain ones are {said[policy.uncertain]} and missing ones {said[policy.missing]}"


def _combined(card: Card) -> str:
    said = {"max_logit": "the largest logit of its images", "mean_prob": "the mean probability of its images", "first": "its first image"}
    return "" if card.score_per == "image" else f", by {said[card.views]}"


def splits_in_words(card: Card) -> str:
    """Say how the rows of a card come to their splits."""
    said = [f"`{start}` is {split}" if start else f"every image is {split}" for start, split in card.splits.official.items()]
    said += [f"what the data says is `{written}` is {split}" for written, split in card.splits.given.items()]
    said += [f"the images of `{file}` are {split}" for split, file in card.splits.lists.items()]
    said += ["rows that are in none are left out"] if card.splits.unlisted == "leave_out" else []
    said += [f"{100 * share:g}% of the patients of train are {split}, by hash" for split, share in card.splits.patients_by_hash.items()]
    missing = [split for split in ("val", "test") if split not in card.split_names]
    return "; ".join(said) + (f"; there is no {' and no '.join(missing)}" if missing else "")


def _on_disk(card: Card) -> str:
    if card.shipped:
        return "comes with this package"
    if card.made.get("always"):
        return "made when a sweep that uses it is submitted, or by `orchestrate data prepare`"
    return f"`data: {{{card.place}: FOLDER}}` in the cluster config, or `{card.place}` below its `data_root`"


def main(arguments: Sequence[str]) -> None:
    """Write the reference, or with `help` the help texts, or with `presets` the page of the presets, to standard output."""
    pages = {"help": help_texts, "presets": lambda: presets_page(own_trainers())}
    sys.stdout.write(pages.get(" ".join(arguments), page)())


if __name__ == "__main__":
    main(sys.argv[1:])
