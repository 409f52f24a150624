"""Label files of every card that can be made, damaged in every way: rows, or one sentence that names the file. Never another exception."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainers.data.access import Rows
from trainers.data.cards import Card, list_cards, load_card
from trainers.data.index import label_paths, read_index
from trainers.data.phantom.layout import write_made
from trainers.data.phantom.layout_names import has_layout
from trainers.data.phantom.parameters import parameters_from
from trainers.data.splits import split_of
from trainers.data.tables import read_table
from trainers.errors import DataError

_TEXT = (".csv", ".txt", ".gz", ".tsv")


def makeable() -> list[Card]:
    """Return one card of each reader for which made data can be written."""
    found: dict[str, Card] = {}
    for name in list_cards():
        card = load_card(name)
        layout = str(card.made.get("layout", card.reader))
        if card.made.get("generator") == "phantom" and not card.members and has_layout(layout):
            found.setdefault(card.reader, card)
    return list(found.values())


CARDS = makeable()


@dataclass(frozen=True, slots=True)
class Place:
    """A made data set, and its label files that are text."""

    card: Card
    root: Path
    files: tuple[Path, ...]

    def rows(self) -> Rows:
        """Read the index and split it, as opening does."""
        from trainers.data.index import base_of

        rows = read_index(self.card, self.root)
        split_of(self.card, rows, base_of(self.card, self.root))
        return rows


@pytest.fixture(scope="module", params=CARDS, ids=[card.name for card in CARDS])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Place:
    card: Card = request.param
    small = {"px": 32, "patients_train": 8, "patients_valid": 4, "max_studies": 1}
    root = write_made(
        tmp_path_factory.mktemp(card.name) / "made",
        parameters_from({**card.made.get("parameters", {}), **small}),
        str(card.made.get("layout", card.reader)),
    ).root
    files = sorted({path for paths in label_paths(card, root).values() for path in paths if path.name.endswith(_TEXT)})
    return Place(card, root, tuple(files[:6]))


@pytest.fixture
def place(made: Place, tmp_path: Path) -> Place:
    """Return a copy of the made data that a test may damage."""
    root = shutil.copytree(made.root, tmp_path / "data")
    return Place(made.card, root, tuple(root / file.relative_to(made.root) for file in made.files))


def load(file: Path) -> bytes:
    content = file.read_bytes()
    return gzip.decompress(content) if file.suffix == ".gz" else content


def save(file: Path, content: bytes) -> None:
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)


def fault(place: Place) -> str:
    with pytest.raises(DataError) as error:
        place.rows()
    assert "\n" not in str(error.value)
    return str(error.value)


# --- what changes nothing -----------------------------------------------------------------------------------------------------------------

HARMLESS: dict[str, Callable[[bytes], bytes]] = {
    "windows line ends": lambda content: content.replace(b"\n", b"\r\n"),
    "old mac line ends": lambda content: content.replace(b"\n", b"\r"),
    "a byte-order mark": lambda content: b"\xef\xbb\xbf" + content,
    "blank lines at the end": lambda content: content + b"\n\n\r\n",
    "no line end at the end": lambda content: content.rstrip(b"\n"),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_how_an_editor_saved_it_changes_nothing(place: Place, name: str) -> None:
    before = place.rows()
    for file in place.files:
        save(file, HARMLESS[name](load(file)))
    after = place.rows()
    assert after.images.tolist() == before.images.tolist()
    np.testing.assert_array_equal(after.labels, before.labels)
    assert after.patients.tolist() == before.patients.tolist()
    assert {name: texts.tolist() for name, texts in after.traits.items()} == {name: texts.tolist() for name, texts in before.traits.items()}


# --- what is refused by name --------------------------------------------------------------------------------------------------------------


def middle(content: bytes) -> tuple[list[bytes], int]:
    lines = content.rstrip(b"\n").split(b"\n")
    return lines, len(lines) // 2


def insert(content: bytes, text: bytes) -> bytes:
    """Put bytes into the middle of a file, at the start of a line."""
    lines, at = middle(content)
    lines[at] = text + lines[at]
    return b"\n".join(lines) + b"\n"


REFUSED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "UTF-16": (lambda content: content.decode().encode("utf-16"), r"is UTF-16: save it as UTF-8"),
    "latin-1": (lambda content: insert(content, b"\xe9"), r":\d+: is not UTF-8 \(byte \d+\): save it as UTF-8"),
    "a NUL byte": (lambda content: insert(content, b"\0"), r":\d+: holds a NUL byte"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_another_encoding_is_refused_with_its_line(place: Place, name: str) -> None:
    change, said = REFUSED[name]
    for file in place.files:
        whole = load(file)
        save(file, change(whole))
        assert re.search(re.escape(str(file)) + r":?\S* ?.*" + said if name == "UTF-16" else re.escape(str(file)) + said, fault(place))
        save(file, whole)


def test_a_folder_in_place_of_a_file_and_no_file_at_all(place: Place) -> None:
    for file in place.files:
        whole = file.read_bytes()
        file.unlink()
        assert file.name in fault(place) or file.parent.name in fault(place)
        file.mkdir()
        assert file.name in fault(place) or file.parent.name in fault(place)
        file.rmdir()
        file.write_bytes(whole)
    place.rows()


def test_a_gzip_file_that_is_not_whole_is_refused(place: Place) -> None:
    for file in place.files:
        if file.suffix == ".gz":
            file.write_bytes(file.read_bytes()[:-9])
            assert f"{file}: is no whole gzip file" in fault(place)
            return


def tables(place: Place) -> list[Path]:
    """Return the label files that are tables: they have a header with a comma."""
    return [file for file in place.files if ".csv" in file.name and load(file).count(b"\n") > 2]


TABLE_FAULTS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "an unbalanced quote": (lambda content: insert(content, b'"'), r":\d+: "),
    "a cell too many": (lambda content: insert(content, b"surplus,"), r":\d+: has \d+ fields, the header has \d+"),
    "a row too short": (lambda content: insert(content, b"alone\n"), r":\d+: has 1 fields, the header has \d+"),
    "nothing": (lambda content: b"", r": is empty"),
    "blank lines alone": (lambda content: b"\n\r\n\n", r": is empty"),
}


@pytest.mark.parametrize("name", TABLE_FAULTS)
def test_a_table_that_is_none_is_refused_with_its_line(place: Place, name: str) -> None:
    change, said = TABLE_FAULTS[name]
    for file in tables(place):
        whole = load(file)
        save(file, change(whole))
        assert re.search(re.escape(str(file)) + said, fault(place)), fault(place)
        save(file, whole)


def test_tables_of_headers_alone_are_no_data_set(place: Place) -> None:
    found = tables(place)
    if found:
        for file in found:
            save(file, load(file).split(b"\n")[0] + b"\n")
        assert fault(place)


# --- whatever else ------------------------------------------------------------------------------------------------------------------------

PIECES = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b",", b'"', b"\n", b"\r", b"nan", b"NaN", b"inf", b"1e999", b"-1", b"2", b"|", b"[", b"\\", b"../", b"%s", b"\xc3\xa9"]
    ),
)
EDITS = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 60), PIECES), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(which=st.integers(0, 100), edits=EDITS)
def test_any_edit_gives_rows_or_one_sentence(made: Place, which: int, edits: list[tuple[float, int, bytes]]) -> None:
    if not made.files:
        return
    file = made.files[which % len(made.files)]
    whole = file.read_bytes()
    content = load(file)
    for share, length, piece in edits:
        at = int(share * len(content))
        content = content[:at] + piece + content[at + length :]
    try:
        save(file, content)
        try:
            rows = made.rows()
        except DataError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 3000
        else:
            assert len(rows) > 0
            assert np.isin(rows.labels[~np.isnan(rows.labels)], (-1, 0, 1)).all() or made.card.task == "multilabel"
    finally:
        file.write_bytes(whole)


CELLS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=8)


@settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=6), raw=st.booleans())
def test_a_table_gives_lines_or_one_sentence_with_its_place(tmp_path: Path, rows: list[list[str]], raw: bool) -> None:
    import csv

    file = tmp_path / "table.csv"
    if raw:
        file.write_text("\n".join(",".join(cells) for cells in rows), encoding="utf-8", newline="")
    else:
        with file.open("w", encoding="utf-8", newline="") as text:
            csv.writer(text).writerows([[f"column {index}" for index in range(4)], *rows])
    try:
        found = list(read_table(CARDS[0], file))
    except DataError as error:
        assert str(error).startswith(str(file))
        return
    for line in found:
        assert line.place == f"{file}:{line.number}"
    if not raw:
        # What csv writes and every row of which is whole comes back as it was.
        assert [list(line.cells.values()) for line in found] == [cells for cells in rows if len(cells) == 4]
