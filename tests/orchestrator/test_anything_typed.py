"""Whatever is typed ends in a sweep, or in a sentence with a place: never in a traceback."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.documents import read_document
from orchestrator.errors import SweepError
from orchestrator.loading import load_sweep
from tests.golden.trainers import CATALOG

GOLDEN = Path(__file__).parents[1] / "golden" / "sweeps"
TABLE = yaml.safe_load((Path(__file__).parent / "bad_sweeps" / "loading.yaml").read_text(encoding="utf-8"))
USED = GOLDEN / "ark6_pretrain.yaml"
TEXTS = [path.read_text(encoding="utf-8").replace(USED.name, str(USED)) for path in sorted(GOLDEN.glob("*.yaml"))]
SOURCES = TEXTS * 10 + [case["sweep"] for case in TABLE]
PIECES = ["", *" \t\n:,[]{}'\"#é", ": ", "- ", "*t", "&t ", "!x ", "null", "1", "-1", "1e-4", "true"]
WORDS = ["", "x", "none", "same", "lr", "last", "val/loss"]
ATOMS: list[Any] = [None, True, 0, 1, -1, 0.5, 1e-4, *WORDS, [], {}, [1], [[1]], [None], [{}], {"a": 1}]
MANY = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def ends_well(folder: Path, text: str) -> None:
    path = folder / "x.yaml"
    path.write_text(text, encoding="utf-8")
    try:
        load_sweep(path, catalog=CATALOG)
    except SweepError as error:
        assert error.place is not None and str(error).startswith((str(folder), str(GOLDEN)))


def paths_of(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if path:
        yield path
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from paths_of(item, (*path, key))


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def change(value: Any, chance: random.Random) -> None:
    """Drop a value, put another in its place, or add one under a key from elsewhere."""
    paths = list(paths_of(value))
    if not paths:
        return
    path = chance.choice(paths)
    parent, other = at(value, path[:-1]), copy.deepcopy(chance.choice([chance.choice(ATOMS), at(value, chance.choice(paths))]))
    kind = chance.randrange(3)
    if kind == 0:
        del parent[path[-1]]
    elif kind == 1:
        parent[path[-1]] = other
    elif isinstance(parent, dict):
        parent[str(chance.choice(paths)[-1])] = other
    else:
        parent.append(other)


@MANY
@given(seed=st.integers(0, 2**32))
def test_of_characters(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    text = chance.choice(SOURCES)
    for _ in range(chance.choice([1, 1, 2, 4])):
        start = chance.randrange(len(text) + 1)
        text = text[:start] + chance.choice(PIECES) + text[start + chance.choice([0, 0, 1, 3, 12]) :]
    ends_well(tmp_path, text)


@MANY
@given(seed=st.integers(0, 2**32))
def test_of_values(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    (tmp_path / "x.yaml").write_text(chance.choice(TEXTS), encoding="utf-8")
    content = read_document(tmp_path / "x.yaml").plain()
    for _ in range(chance.choice([1, 1, 2, 3])):
        change(content, chance)
    ends_well(tmp_path, json.dumps(content))


@pytest.mark.parametrize("text", TEXTS, ids=[path.stem for path in sorted(GOLDEN.glob("*.yaml"))])
def test_of_half_a_file(tmp_path: Path, text: str) -> None:
    for end in range(0, len(text), 37):
        ends_well(tmp_path, text[:end])
