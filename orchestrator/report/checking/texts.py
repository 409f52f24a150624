"""LaTeX and Markdown as a check reads them: numbers that carry a name, numbers that do not with what is said around them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.errors import ReportError

#: What a text says to the check in a comment.
_MARKER = re.compile(r"(?:<!--|(?<!\\)%+)\s*cxr:\s*(?P<said>.*?)\s*(?:-->|$)", re.MULTILINE)
_NAMED = re.compile(r"\\cxr\s*\{(?P<name>[^{}]*)\}\s*\{(?P<shown>(?:[^{}]|\{[^{}]*\})*)\}")
_COMMENT = re.compile(r"(?<!\\)%[^\n]*")
_HTML_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
#: What is told of a picture names many arms and numbers in one breath.
_IMAGE = re.compile(r"!\[[^\]]*\]\([^)\n]*\)")
_TAG = re.compile(r"</?[a-zA-Z][^<>\n]*>")
_CODE = re.compile(r"(?ms)^```.*?^```|`[^`\n]*`")
_INPUT = re.compile(r"\\(?:input|include)\s*\{([^{}]+)\}")
#: A number that may be an estimate: two decimals and more, or one decimal and a percent sign. "Below 0.25×" is the end of what was tried.
ESTIMATE = re.compile(
    r"(?P<relation>(?:[<>≤≥]|\\(?:leq?|geq?|lt|gt)\b)[\s$~{}]*(?:\\[,;!])?\s*)?(?P<sign>(?:[+−]|(?<![\w.)\]}–-])[-–]|\$-\$)\s*)?"
    r"(?<![\d.,\w])(?!(?:(?<=below )|(?<=beyond ))[\d.]+\s?\$?(?:×|\\times)(?!\s*10\^))"
    r"(?P<digits>\d{0,3}\.\d{2,}(?:\s*(?:\\times|\\cdot|×)\s*10\^\{?-?\d+\}?)?(?:\s?\\?%)?|\d{1,3}\.\d\s?\\?%)(?![\d.]*\d)"
)
#: `p = `, `Holm-adjusted p < `, `q `, with what TeX may put between.
_P_BEFORE = re.compile(r"\b(?:[pq]|raw)\b(?:[\s$\\{}()~,a-z-]|\\[,;])*[=<>≤≥]?[\s$~{}\\,]*[<>]?[\s$~{}\\,]*$")
_P_HEAD = re.compile(r"[\s$\\{}*_]*(?:[pq]|[pq][- ]values?)\b[\s$\\{}*_]*", re.IGNORECASE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z\\$*>\[(])|\n\s*\n|\\item\b|\n\s*(?:[-*+]|\d+\.)\s|\\(?:sub)*section\*?\b|\n#+ ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where in a file something stands; both count from 1."""

    file: Path
    line: int
    column: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A number with its name."""

    spot: Spot
    name: str
    shown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Typed:
    """A number without a name. `around` are the pieces of text that say what it is of, `before` what was said just before them."""

    spot: Spot
    shown: str
    around: tuple[str, ...]
    before: str = ""
    is_p: bool = False


@dataclass(slots=True)
class Text:
    """One file as it was read."""

    path: Path
    named: list[Named] = field(default_factory=list)
    typed: list[Typed] = field(default_factory=list)
    #: (spot, another name for an arm, the arm).
    aliases: list[tuple[Spot, str, str]] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)


def read_text(path: Path) -> Text:
    """Read a `.tex` or `.md` file. Raises ReportError for one that cannot be read as such."""
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ReportError(f"{path}: no such file; --check takes a .tex or a .md file") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise ReportError(f"{path}: not a text in UTF-8 ({error}); --check takes a .tex or a .md file") from None
    return _Reader(path, content).read()


class _Reader:
    """Reads one file. What was read is blanked out, so that offsets stay and nothing is read twice."""

    def __init__(self, path: Path, content: str) -> None:
        self.is_tex = path.suffix.lower() in (".tex", ".ltx", ".latex")
        self.text = Text(path=path)
        self.content = content
        self.left = content

    def read(self) -> Text:
        """Return what the file holds."""
        if not self.is_tex:
            self._blank(_CODE)
            self._blank(_IMAGE)
        self._markers()
        if self.is_tex:
            self._blank(_COMMENT)
            self.text.inputs = _INPUT.findall(self.left)
        else:
            self._blank(_HTML_COMMENT)
            self._blank(_TAG)
        for found in _NAMED.finditer(self.left):
            self.text.named.append(Named(spot=self._spot(found.start()), name=found["name"].strip(), shown=found["shown"]))
        self._blank(_NAMED)
        for start, end, rows in self._tables():
            self.text.typed += self._of_table(rows)
            self.left = self.left[:start] + re.sub(r"[^\n]", " ", self.left[start:end]) + self.left[end:]
        self.text.typed += self._of_prose()
        self.text.typed.sort(key=lambda one: (one.spot.line, one.spot.column))
        return self.text

    def _blank(self, pattern: re.Pattern[str]) -> None:
        self.left = pattern.sub(lambda found: re.sub(r"[^\n]", " ", found.group()), self.left)

    def _spot(self, offset: int) -> Spot:
        line = self.content.count("\n", 0, offset)
        return Spot(file=self.text.path, line=line + 1, column=offset - (self.content.rfind("\n", 0, offset) + 1) + 1)

    def _markers(self) -> None:
        """Obey what comments say: a name for the number before, `ignore` for a line, `off` and `on` for a stretch, `alias NAME = ARM`."""
        off: int | None = None
        blanked: list[tuple[int, int]] = []
        for found in _MARKER.finditer(self.left):
            said, start = found["said"], self.left.rfind("\n", 0, found.start()) + 1
            if said == "ignore":
                blanked.append((start, found.start()))
            elif said in ("off", "on"):
                if said == "on" and off is not None:
                    blanked.append((off, found.start()))
                off = found.end() if said == "off" else None
            elif said.startswith("alias "):
                name, equals, arm = said.removeprefix("alias ").partition("=")
                if not equals or not name.strip() or not arm.strip():
                    raise ReportError(f"{self._at(found.start())}: `cxr: {said}`: write `cxr: alias NAME = ARM`")
                self.text.aliases.append((self._spot(found.start()), name.strip(), arm.strip()))
            else:
                blanked.append(self._trailing(found, start))
        if off is not None:
            blanked.append((off, len(self.left)))
        for start, end in blanked:
            self.left = self.left[:start] + re.sub(r"[^\n]", " ", self.left[start:end]) + self.left[end:]

    def _trailing(self, found: re.Match[str], start: int) -> tuple[int, int]:
        """Take the last number before a marker on its line as the one that the marker names."""
        numbers = list(re.finditer(r"[<>+\-−–$~\s{]*(?:\d+(?:[.,]\d+)*|\.\d+)(?:\s?\\?%)?", self.left[start : found.start()]))
        if not numbers:
            raise ReportError(f"{self._at(found.start())}: `cxr: {found['said']}` has no number before it on its line")
        last = numbers[-1]
        begin, end = start + last.start(), start + last.end()
        shown = self.left[begin:end].strip().rstrip("$")
        lead = len(self.left[begin:end]) - len(self.left[begin:end].lstrip())
        self.text.named.append(Named(spot=self._spot(begin + lead), name=found["said"], shown=shown))
        return begin, end

    def _at(self, offset: int) -> str:
        spot = self._spot(offset)
        return f"{spot.file}:{spot.line}:{spot.column}"

    def _tables(self) -> Iterator[tuple[int, int, list[list[tuple[int, str]]]]]:
        """Yield tables as (start, end, rows of cells with their offsets)."""
        if self.is_tex:
            for found in re.finditer(r"\\begin\{(tabular[xy*]?|longtable|tblr)\}(.*?)\\end\{\1\}", self.left, re.DOTALL):
                yield found.start(), found.end(), list(_rows(found[2], found.start(2), r"\\\\", r"(?<!\\)&"))
        else:
            for found in re.finditer(r"(?m)(?:^[ ]{0,3}\|[^\n]*\n?)+", self.left):
                yield found.start(), found.end(), list(_rows(found[0], found.start(), r"\n", r"(?<!\\)\|"))

    def _of_table(self, rows: list[list[tuple[int, str]]]) -> Iterator[Typed]:
        """Yield the numbers of a table with what their row and the heads of their column say."""
        heads: dict[int, list[str]] = {}
        for row in rows:
            spread = list(_spread(row))
            if not any(ESTIMATE.search(cell) for _, _, cell in spread):
                for column, _, cell in spread:
                    heads.setdefault(column, []).append(cell)
                continue
            names = tuple(cell for _, _, cell in spread if not ESTIMATE.search(cell))
            for column, offset, cell in spread:
                for found in ESTIMATE.finditer(cell):
                    around = (*names, *heads.get(column, ()))
                    yield self._number(found, offset, cell, around, before="", of_p=any(map(_P_HEAD.match, heads.get(column, ()))))

    def _of_prose(self) -> Iterator[Typed]:
        """Yield the numbers of sentences; a sentence that names nothing is about what the one before it named."""
        start, before = 0, ""
        for found in [*_SENTENCE.finditer(self.left), None]:
            end = found.start() if found else len(self.left)
            sentence = self.left[start:end]
            for number in ESTIMATE.finditer(sentence):
                yield self._number(number, start, sentence, (sentence,), before=before)
            paragraph = found is None or not found.group().isspace() or "\n\n" in re.sub(r"[ \t]", "", found.group())
            before = "" if paragraph else f"{before} {sentence}"
            start = found.end() if found else end

    def _number(self, found: re.Match[str], offset: int, text: str, around: tuple[str, ...], *, before: str, of_p: bool = False) -> Typed:
        lead = text[max(0, found.start() - 24) : found.start("digits")]
        return Typed(
            spot=self._spot(offset + found.start("digits")),
            shown=found.group(),
            around=around,
            before=before,
            is_p=of_p or found["relation"] is not None or _P_BEFORE.search(lead) is not None,
        )


def _rows(body: str, offset: int, end: str, between: str) -> Iterator[list[tuple[int, str]]]:
    """Split the body of a table into rows of cells, each with its offset."""
    start = 0
    for stop in [*re.finditer(end, body), None]:
        row = body[start : stop.start() if stop else len(body)]
        cells: list[tuple[int, str]] = []
        place = 0
        for found in [*re.finditer(between, row), None]:
            cells.append((offset + start + place, row[place : found.start() if found else len(row)]))
            place = found.end() if found else place
        yield cells
        start = stop.end() if stop else start


def _spread(row: list[tuple[int, str]]) -> Iterator[tuple[int, int, str]]:
    """Yield (column, offset, cell), a cell over several columns once for each."""
    column = 0
    for offset, cell in row:
        wide = re.search(r"\\multicolumn\s*\{(\d+)\}", cell)
        for _ in range(int(wide[1]) if wide else 1):
            yield column, offset, cell
            column += 1
