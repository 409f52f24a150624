"""YAML 1.2 reading: scalars, places, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.documents import MAX_DEPTH, Node, Source, merge, read_document, read_scalar
from orchestrator.errors import Place, SweepError


def read(folder: Path, text: str | bytes, name: str = "x.yaml") -> Node:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_document(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-0.0", -0.0),
        ("+3", 3),
        ("012", 12),
        ("0o17", 15),
        ("0xFF", 255),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("12:30:00", "12:30:00"),
        ("2021-04-01", "2021-04-01"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("on", "on"),
        ("off", "off"),
        ("y", "y"),
        ("true", True),
        ("False", False),
        ("tRUE", "tRUE"),
        ("null", None),
        ("~", None),
        ("none", "none"),
        ("=", "="),
        ("0b1", "0b1"),
        ("e3", "e3"),
        ("1e", "1e"),
        ("0x", "0x"),
        ("١٢", "١٢"),
    ],
)
def test_plain_scalars_follow_the_core_schema(tmp_path: Path, text: str, value: object) -> None:
    found = read(tmp_path, f"key: {text}\n").entries["key"].value
    assert found == value
    assert type(found) is type(value)


def test_quoted_scalars_are_text(tmp_path: Path) -> None:
    node = read(tmp_path, "a: '1e-4'\nb: \"true\"\nc: |\n  12\nd: ''\n")
    assert node.plain() == {"a": "1e-4", "b": "true", "c": "12\n", "d": ""}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_is_read_back_exactly(number: float) -> None:
    assert math.copysign(1, float(read_scalar(repr(number)) or 0.0)) == math.copysign(1, number) or number == 0
    assert read_scalar(repr(number)) == number


@given(st.integers(min_value=-(10**30), max_value=10**30))
def test_every_whole_number_is_read_back(number: int) -> None:
    assert read_scalar(str(number)) == number


@pytest.mark.parametrize("text", [".inf", "-.Inf", ".nan", "1e999", "9" * 400])
def test_numbers_that_no_config_may_hold_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not allowed|too large"):
        read_scalar(text)


def test_every_value_knows_its_place(tmp_path: Path) -> None:
    node = read(tmp_path, "a: 1\nphases:\n  finetune:\n    when:\n      - {if: {lr: 2}}\n      - {if: {lr: 3}}\n")
    source = Source(node)
    file = str(tmp_path / "x.yaml")
    assert source.place("a") == Place(file, 1, 4, "a: 1")
    # A block value starts on a later line than its key, and the key is what a person looks for.
    assert source.place("phases.finetune") == Place(file, 3, 3, "  finetune:")
    assert source.place("phases.finetune.when[1].if.lr") == Place(file, 6, 19, "      - {if: {lr: 3}}")


def test_a_place_that_is_not_there_falls_back_to_the_nearest_above(tmp_path: Path) -> None:
    source = Source(read(tmp_path, "phases:\n  a: {when: [{set: {b: 1}}]}\n"))
    assert source.place("phases.a.when[0].set.c.d") == source.place("phases.a.when[0].set")
    assert source.place("phases.a.when[7].if") == source.place("phases.a.when")
    assert source.place("nothing.of.it") == source.place("")


def test_a_borrowed_part_answers_from_its_own_file(tmp_path: Path) -> None:
    source = Source(read(tmp_path, "phases:\n  a: {x: 1}\n", "one.yaml"))
    source.borrow("phases.b", Source(read(tmp_path, "phases:\n  b: {x: 1}\n  bb: {x: 1}\n", "two.yaml")))
    found = source.place("phases.b.x")
    assert found is not None and found.file.endswith("two.yaml") and found.line == 2
    other = source.place("phases.bb.x")
    assert other is not None and other.file.endswith("one.yaml")


def test_anchors_are_allowed_and_point_at_the_anchor(tmp_path: Path) -> None:
    node = read(tmp_path, "a: &t [1, 2]\nb: *t\n")
    assert node.plain() == {"a": [1, 2], "b": [1, 2]}
    assert node.entries["b"].items[1].place.line == 1


def test_aliases_that_multiply_are_refused(tmp_path: Path) -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    with pytest.raises(SweepError, match="aliases unfold into more than"):
        read(tmp_path, text)


def test_deep_nesting_is_refused_before_the_stack_ends(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=f"nested deeper than {MAX_DEPTH} levels"):
        read(tmp_path, "a: " + "[" * 5000 + "]" * 5000)


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n"])
def test_an_empty_file_says_so(tmp_path: Path, text: str) -> None:
    with pytest.raises(SweepError, match=r"x\.yaml:1:1: the file is empty|expects keys and values, got nothing"):
        read(tmp_path, text)


def test_bytes_that_are_no_text_are_refused_with_their_place(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"x\.yaml:2:8: not UTF-8 text; save the file as UTF-8"):
        read(tmp_path, b"sweep: x\nabout: \xff\xfe\n")


@pytest.mark.parametrize(("text", "where"), [("a: 1\nb: \x07\n", "2:4"), ("a: 1\nb: x\x85c: 2\n", "2:5"), ("a: x\u2028", "1:5")])
def test_characters_that_count_lines_otherwise_are_refused(tmp_path: Path, text: str, where: str) -> None:
    with pytest.raises(SweepError, match=rf"x\.yaml:{where}: the character U\+[0-9A-F]+ is not allowed here"):
        read(tmp_path, text)


def test_files_of_other_systems_are_read(tmp_path: Path) -> None:
    node = read(tmp_path, b"\xef\xbb\xbfa: 1\r\nb:\r\n  c: 2\r\n")
    assert node.plain() == {"a": 1, "b": {"c": 2}}
    assert node.entries["b"].entries["c"].place.line == 3


def test_a_file_that_is_not_there_or_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=r"none\.yaml: there is no such file"):
        read_document(tmp_path / "none.yaml")
    with pytest.raises(SweepError, match="cannot be read"):
        read_document(tmp_path)


def test_the_error_shows_the_line_and_a_caret(tmp_path: Path) -> None:
    with pytest.raises(SweepError) as caught:
        read(tmp_path, "a: 1\nb: {c: 2, c: 3}\n")
    head, line, caret = str(caught.value).split("\n")
    assert head.endswith("x.yaml:2:11: b.c: the key stands twice; the first is in line 2")
    assert line == "  b: {c: 2, c: 3}"
    assert line[len(caret) - 1] == "c" and caret == " " * 12 + "^"


def test_merging_lays_one_tree_over_another(tmp_path: Path) -> None:
    base = read(tmp_path, "a: {x: 1, y: [1, 2], z: {q: 1}}\nb: 2\n", "base.yaml")
    over = read(tmp_path, "c: 4\na: {y: [3], z: 5, w: 6}\n", "over.yaml")
    merged = merge(base, over)
    assert merged.plain() == {"a": {"x": 1, "y": [3], "z": 5, "w": 6}, "b": 2, "c": 4}
    assert list(merged.entries) == ["a", "b", "c"]
    source = Source(merged)
    assert [Path(place.file).name for place in (source.place("a.x"), source.place("a.y")) if place] == ["base.yaml", "over.yaml"]


LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text())
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)


@given(TREES)
def test_json_is_read_as_json_reads_it(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    folder = tmp_path_factory.mktemp("json")
    assert read(folder, json.dumps({"key": value})).plain() == {"key": value}


def test_escapes_that_are_no_character_are_refused(tmp_path: Path) -> None:
    for escape in ("\\ud800", "\\udc00x", "\\UFFFFFFFF"):
        with pytest.raises(SweepError, match=r"x\.yaml:1:\d+: .*character"):
            read(tmp_path, f'a: "{escape}"\n')
