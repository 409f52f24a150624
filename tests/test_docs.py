"""What is written from the code is current, what is written by hand leads somewhere, and the surface changes on purpose only."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.spec import Resources
from orchestrator import __version__, key_tables, reference
from orchestrator.cli import app
from orchestrator.clusters import CLUSTER
from orchestrator.documents import read_document
from orchestrator.exit_codes import MEANINGS
from orchestrator.expansion.presets import preset_values
from orchestrator.grammar.configs import fields_of
from orchestrator.grammar.faults import Faults
from orchestrator.grammar.keys import DRAWS, PHASE, PICK, REPORT, RESOURCES, SAMPLE, SWEEP, TARGET
from orchestrator.loading import load_sweep
from orchestrator.model import Sample
from orchestrator.preset_page import presets_page
from trainers.data.cards import list_cards, load_card

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference.md"
HELP = ROOT / "tests" / "golden" / "help.txt"
#: Pages that people read, and that must not lead nowhere.
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *(path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.exists())])
SHIPPED = sorted((ROOT / "sweeps").glob("*.yaml"))
BENCHES = sorted((ROOT / "tests" / "bench").glob("bench_*.py"))
COMMANDS = list(reference.commands())
TRAINERS = reference.own_trainers()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def sections(page: str, level: int) -> dict[str, str]:
    """Return the text below each heading of a level, without code blocks' lines taken for headings."""
    parts = re.split(rf"(?m)^{'#' * level} (.+)$", page)
    return {title: re.split(rf"(?m)^#{{1,{level}}} ", body)[0] for title, body in zip(parts[1::2], parts[2::2], strict=True)}


def first_cells(body: str) -> set[str]:
    """Return what stands in backticks in the first column of tables."""
    return {found for line in body.splitlines() if line.startswith("| ") for found in re.findall(r"`([^`]+)`", line.split(" | ")[0])}


# --- the reference ------------------------------------------------------------------------------------------------------------------------


def test_the_reference_is_current() -> None:
    assert text_of(PAGE) == reference.page(), "type: make docs"


def test_the_page_of_the_presets_is_current_and_tells_every_value() -> None:
    page = text_of(ROOT / "docs" / "presets.md")
    assert page == presets_page(TRAINERS), "type: make docs"
    for name, declaration in TRAINERS.items():
        body = sections(page, 2).get(f"`{name}`", "")
        for preset, settings in declaration.presets.items():
            told = sections(body, 3)[f"`{name}`, `preset: {preset}`"]
            assert first_cells(told) >= set(settings)
            assert all(why in told for _, why in settings.values())


def test_the_reference_names_no_place_of_a_machine() -> None:
    page = reference.page()
    assert str(ROOT) not in page
    assert re.findall(r"(?<![\w.:/])/(?:home|root|usr|tmp|opt|Users|mnt|data)\b", page) == []


def test_writing_it_needs_no_torch_and_commands_do_not_need_it() -> None:
    code = (
        "import sys, orchestrator.cli\n"
        "assert 'orchestrator.reference' not in sys.modules and 'orchestrator.key_tables' not in sys.modules\n"
        "from orchestrator import reference\n"
        "assert len(reference.page()) > 10_000\n"
        "print([name for name in ('torch', 'timm', 'ray', 'mlflow', 'numpy', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("context", "command"), COMMANDS, ids=[context.command_path for context, _ in COMMANDS])
def test_every_command_is_explained(context: Any, command: Any) -> None:
    body = sections(sections(text_of(PAGE), 2)["Commands"], 3)[f"`{context.command_path}`"]
    about, _ = reference.split_help(command.help)
    assert about and about in body
    for one in command.get_params(context):
        if "--help" in one.opts:
            continue
        assert one.help, f"{context.command_path}: '{one.name}' has no help text"
        sign = one.metavar if one.param_type_name == "argument" and one.metavar else one.opts[0]
        assert any(sign.replace("|", "\\|") in cell for cell in first_cells_escaped(body)), one.name


def first_cells_escaped(body: str) -> set[str]:
    return {re.split(r"(?<!\\) \| ", line)[0] for line in body.splitlines() if line.startswith("| ")}


LEAVES = [(context, command) for context, command in COMMANDS if not hasattr(command, "commands")]


@pytest.mark.parametrize(("context", "command"), LEAVES, ids=[context.command_path for context, _ in LEAVES])
def test_every_command_shows_an_example_that_it_takes(context: Any, command: Any) -> None:
    examples = [line.strip() for line in command.help.splitlines() if line.strip().startswith(reference.EXAMPLE)]
    assert len(examples) == 1
    words = shlex.split(examples[0].removeprefix(reference.EXAMPLE))
    path = context.command_path.split()
    assert words[: len(path)] == path
    parsed = command.make_context(path[-1], words[len(path) :])
    assert not parsed.args
    for word in words:
        if word.endswith(".yaml"):
            assert (ROOT / word).is_file(), word


def test_every_command_is_walked() -> None:
    registered = {f"orchestrate {one.name or one.callback.__name__}" for one in app.registered_commands if one.callback}
    for group in app.registered_groups:
        assert group.typer_instance is not None
        registered |= {f"orchestrate {group.name} {one.name}" for one in group.typer_instance.registered_commands}
    assert len(registered) > 15
    assert {context.command_path for context, _ in LEAVES} == registered


def test_every_exit_code_is_explained() -> None:
    source = ast.parse(text_of(ROOT / "orchestrator" / "exit_codes.py"))
    codes = {node.value.value for node in source.body if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)}
    assert codes == set(MEANINGS) == {int(cell) for cell in first_cells(sections(text_of(PAGE), 2)["Exit codes"])}


def named_keys(schema: Any) -> Iterator[str]:
    """Yield every key that a JSON Schema names, wherever it stands."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for value in schema.values():
            yield from named_keys(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from named_keys(value)


@pytest.mark.parametrize(("grammar", "title", "least"), [(SWEEP, "Keys of a sweep", 80), (CLUSTER, "Keys of a cluster config", 20)])
def test_every_key_is_explained_where_it_stands(grammar: Any, title: str, least: int) -> None:
    body = sections(text_of(PAGE), 2)[title]
    assert set(named_keys(grammar.schema())) <= first_cells(body)
    told = 0
    for found in key_tables.mappings(grammar):
        heading = f"`{found.paths[0]}`" if found.paths[0] else f"Top level of {title.removeprefix('Keys of ')}"
        part = sections(body, 3)[heading]
        assert all(f"`{path}`" in part for path in found.paths[1:])
        rows = [line for line in part.splitlines() if line.startswith("| ") and not line.startswith(("| key", "| ---"))]
        assert rows
        # No cell is empty: every key says what it is for and what it may be.
        assert [row for row in rows if re.search(r"\|\s+\|", row)] == []
        told += len(rows)
    assert told >= least


def test_defaults_in_the_tables_are_those_of_the_program(tmp_path: Path) -> None:
    path = tmp_path / "bare.yaml"
    path.write_text(
        "sweep: bare\ndata: phantom\nphases:\n  only:\n    trainer: classification\n    draws: {fraction: [0.5]}\n"
        "    pick: {metric: val/auroc_macro}\n    evaluate: [{data: same}]\nreport: {title: bare}\nsample: {px: 64}\n",
        encoding="utf-8",
    )
    sweep = load_sweep(path, catalog=TRAINERS, cards=load_card)
    phase = sweep.phases[0]
    found = {
        id(SWEEP): sweep, id(PHASE): phase, id(DRAWS): phase.draws, id(PICK): phase.pick, id(TARGET): phase.evaluate[0],
        id(RESOURCES): phase.resources, id(REPORT): sweep.report, id(SAMPLE): sweep.sample,
    }  # fmt: skip
    assert isinstance(phase.resources, Resources) and isinstance(sweep.sample, Sample)
    checked = 0
    for record, _ in key_tables.DEFAULTS:
        for name in record.keys:
            default = key_tables.default_of(record, name)
            if id(record) in found and default is not None and not record.keys[name].required:
                assert getattr(found[id(record)], name) == default, name
                checked += 1
    assert checked > 20


@pytest.mark.parametrize("name", TRAINERS)
def test_every_trainer_is_explained(name: str) -> None:
    declaration = TRAINERS[name]
    body = sections(sections(text_of(PAGE), 2)["Trainers"], 3)[f"`{name}`"]
    assert f"Version {declaration.version}. {declaration.about}" in body
    known = fields_of(declaration)
    assert set(known.keys) <= first_cells(body)
    assert [key for key in known.keys if not known.about.get(key)] == []


@pytest.mark.parametrize("name", TRAINERS)
def test_presets_set_values_that_a_sweep_could_write(name: str, tmp_path: Path) -> None:
    known = fields_of(TRAINERS[name])
    for preset, settings in TRAINERS[name].presets.items():
        file = tmp_path / f"{preset}.yaml"
        file.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, (value, _) in settings.items()))
        faults = Faults()
        read = {key: known.read(key, item, faults) for key, item in read_document(file).entries.items()}
        faults.raise_first()
        assert read == preset_values(TRAINERS[name], preset)


@pytest.mark.parametrize("name", TRAINERS)
def test_departures_are_from_what_the_program_does(name: str) -> None:
    declaration = TRAINERS[name]
    defaults = fields_of(declaration).defaults
    for key, (theirs, ours, why) in declaration.departures.items():
        assert ours == defaults[key], f"{name}.{key}"
        assert theirs != ours and why
    if not declaration.floor:
        assert declaration.departures


def test_every_data_set_is_explained() -> None:
    known = sections(sections(text_of(PAGE), 2)["Data sets"], 3)
    assert set(known) == {f"`{name}`" for name in list_cards()} and known
    for name in list_cards():
        card, body = load_card(name), known[f"`{name}`"]
        assert card.title in body and reference.splits_in_words(card) in body and f"per {card.score_per}" in body
        assert all(f"`{label}`" in body for label in card.labels)
        assert card.licence and card.licence in body


def test_every_layout_on_disk_is_shown() -> None:
    known = sections(sections(text_of(PAGE), 2)["Layouts on disk"], 3)
    assert set(known) == {f"Reader `{file.stem}`" for file in reference.READERS.glob("[a-z]*.py")}
    for name in list_cards():
        reader = load_card(name).reader
        assert not reader or f"`{name}`" in known[f"Reader `{reader}`"]


# --- the surface --------------------------------------------------------------------------------------------------------------------------


def test_the_surface_is_pinned() -> None:
    assert text_of(HELP) == reference.help_texts(), (
        "the command line changed; if that is meant: python -m orchestrator.reference help > tests/golden/help.txt"
    )


PINNED = dict(re.findall(r"(?ms)^\$ orchestrate ?(.*?) ?--help\n(.*?)(?=^\$ |\Z)", text_of(HELP))) if HELP.exists() else {}


@pytest.mark.parametrize("words", PINNED)
def test_the_pinned_text_is_what_is_printed(words: str) -> None:
    done = CliRunner().invoke(app, [*words.split(), "--help"], prog_name="orchestrate", terminal_width=reference.WIDTH)
    assert done.exit_code == 0
    assert done.output.strip() == PINNED[words].strip()
    assert max(map(len, done.output.splitlines())) > 60


def test_every_command_is_pinned() -> None:
    assert [f"orchestrate {words}".strip() for words in PINNED] == [context.command_path for context, _ in COMMANDS]


# --- what is written by hand --------------------------------------------------------------------------------------------------------------


def links_of(path: Path) -> list[str]:
    """Return the targets of a page's links that lead into the project."""
    prose = re.sub(r"(?s)```.*?```|`[^`\n]*`", "", text_of(path))
    found = re.findall(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)", prose) + re.findall(r"(?m)^\[[^\]]+\]:\s*(\S+)", prose)
    found += re.findall(r"<(?:img|a)\b[^>]*\b(?:src|href)=\"([^\"]+)\"", prose)
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors_of(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as hosts of Markdown make them."""
    prose = re.sub(r"(?s)```.*?```", "", text_of(path))
    return {re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-") for title in re.findall(r"(?m)^#{1,6} (.+)$", prose)}


def broken(path: Path) -> list[str]:
    bad: list[str] = []
    for target in links_of(path):
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.exists() or (anchor and anchor not in anchors_of(there)):
            bad.append(target)
    return bad


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert broken(path) == []


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    links = "[a](#a-title-so) [b](#nowhere) [c](absent.md) `[d](absent.md)` [e](https://example.org/x)"
    page.write_text(f"# A title, `so`\n{links}\n", encoding="utf-8")
    assert broken(page) == ["#nowhere", "absent.md"]


def test_pages_link_to_each_other() -> None:
    assert sum(len(links_of(path)) for path in PAGES) >= 5


@pytest.mark.parametrize("sweep", SHIPPED, ids=lambda path: path.stem)
def test_every_sweep_is_spoken_of(sweep: Path) -> None:
    assert any(f"sweeps/{sweep.name}" in text_of(page) for page in PAGES)


def test_commands_in_the_pages_exist() -> None:
    known = {context.command_path for context, _ in COMMANDS} | {f"orchestrate {name}" for name in ("data", "weights")}
    seen = 0
    for page in PAGES:
        for line in re.findall(r"(?:^|[`/])orchestrate((?: [a-z]+)+)", text_of(page), flags=re.MULTILINE):
            first, *rest = line.split()
            command = f"orchestrate {first}"
            if command in ("orchestrate data", "orchestrate weights") and rest:
                command = f"{command} {rest[0]}"
            assert command in known, f"{page.relative_to(ROOT)}: {command}"
            seen += 1
    assert seen > 20


def test_the_changelog_is_of_this_version() -> None:
    versions = re.findall(r"(?m)^## \[?(\d+\.\d+\.\d+)", text_of(ROOT / "CHANGELOG.md"))
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]
    assert versions[0] == __version__ == project["version"]


def test_the_makefile_writes_what_the_tests_hold() -> None:
    recipe = re.search(r"(?m)^docs:.*\n((?:\t.*\n)+)", text_of(ROOT / "Makefile"))
    assert recipe is not None
    commands = [line.strip().removeprefix("$(BIN)/python -m ") for line in recipe[1].splitlines()]
    pages = ["orchestrator.reference > docs/reference.md", "orchestrator.reference presets > docs/presets.md"]
    pages += [
        "orchestrator.json_page > docs/json.md",
        "orchestrator.measure_page > docs/measures.md",
        "orchestrator.man_page > docs/orchestrate.1",
    ]
    assert commands == [*pages, "orchestrator.method_page docs/methods", "orchestrator.schema > sweeps/schema.json"]
    assert json.loads(text_of(ROOT / "sweeps" / "schema.json"))["title"] == "A sweep"
