r"""Tables as LaTeX with booktabs, one file a table, and a document that shows them all. Numbers stand in `\cxr{name}{number}`."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from orchestrator.report import wording
from orchestrator.report.entries import Column, Entry, Row, Table
from orchestrator.report.figures.drawing import Figure, file_slug
from orchestrator.report.layout import Section
from orchestrator.report.values import Report

#: Columns of numbers that fit beside the names on a page; a wider table goes on in a second one.
MOST_COLUMNS = 6
#: Rows that fit a page; a longer table breaks over pages.
MOST_ROWS = 22
#: Figures and tables on end before they are set.
MOST_FLOATS = 12
#: The macro that carries a number's name. `\providecommand`, so that a paper may print the name, or mark the number, instead.
MACRO = r"\providecommand{\cxr}[2]{#2}"
_SPECIAL: Mapping[str, str] = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "−": "$-$",
    "–": "--",
    "—": "---",
    "·": r"$\cdot$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "√": r"$\surd$",
    "≈": r"$\approx$",
    # In math these come from fonts that every TeX has; in text they would be drawn as bitmaps first.
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "§": r"$\mathsection$",
    "¶": r"$\mathparagraph$",
    "‖": r"$\Vert$",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "\u00a0": "~",
    "\u202f": r"\,",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
}
#: Combining marks as accents, which every encoding of a paper takes.
_ACCENTS: Mapping[str, str] = {
    "\u0300": "`",
    "\u0301": "'",
    "\u0302": "^",
    "\u0303": "~",
    "\u0304": "=",
    "\u0306": "u",
    "\u0307": ".",
    "\u0308": '"',
    "\u030a": "r",
    "\u030b": "H",
    "\u030c": "v",
    "\u0327": "c",
}


def escape(text: str) -> str:
    """Write a text in ASCII so that LaTeX prints it: special characters escaped, accents as accents, letters of other scripts by number."""
    return "".join(_escaped(letter) for letter in unicodedata.normalize("NFC", text))


def _escaped(letter: str) -> str:
    if letter in _SPECIAL:
        return _SPECIAL[letter]
    if letter.isascii():
        return letter if letter.isprintable() else " "
    base, *marks = unicodedata.normalize("NFKD", letter)
    if base.isascii() and len(marks) == 1 and marks[0] in _ACCENTS:
        return rf"\{_ACCENTS[marks[0]]}{{{base}}}"
    plain = "".join([base, *marks]).encode("ascii", "ignore").decode()
    return "".join(_SPECIAL.get(one, one) for one in plain) or f"[U+{ord(letter):04X}]"


def fragments(shown: Sequence[Section]) -> dict[str, str]:
    """Return every table as a file for `\\input`, by file name."""
    tables = [table for part in shown for block in part.blocks if block.in_latex for table in block.all_tables()]
    return {f"{file_slug(table.key)}.tex": fragment(table) for table in tables}


def fragment(table: Table) -> str:
    """Return one table: a float, or a table over pages where it is long, and a second one where it is wide."""
    long = len(table.rows) > MOST_ROWS
    packages = "booktabs and longtable" if long else "booktabs"
    head = [
        "% Made from report.json; `orchestrate report SWEEP --check paper.tex` compares the numbers of a text that takes them from here.",
        f"% Needs the {'packages' if long else 'package'} {packages}.",
        MACRO,
    ]
    notes = _Notes()
    parts = [_floating(table, columns, index, notes, long=long) for index, columns in enumerate(_parts(table))]
    return "\n".join([*head, *parts]) + "\n"


def _parts(table: Table) -> list[list[int]]:
    """Return which columns stand together: all names on the left of each part, a handful of numbers on the right."""
    names = [0]
    rest = list(range(1, len(table.columns)))
    while rest and table.columns[rest[0]].kind == "text" and not table.columns[rest[0]].scale:
        names.append(rest.pop(0))
    if len(rest) <= MOST_COLUMNS:
        return [[*names, *rest]]
    count = -(-len(rest) // MOST_COLUMNS)
    size = -(-len(rest) // count)
    return [[*names, *rest[start : start + size]] for start in range(0, len(rest), size)]


class _Notes:
    """Warnings beside numbers as letters, explained under the table."""

    def __init__(self) -> None:
        self._letters: dict[str, str] = {}

    def letter(self, mark: str) -> str:
        """Return the letter of a warning."""
        return self._letters.setdefault(mark, _letter(len(self._letters)))

    def text(self) -> str:
        """Explain the letters that were given."""
        return "; ".join(rf"\textsuperscript{{{letter}}}\,{escape(mark)}" for mark, letter in self._letters.items())


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else _letter(index // 26 - 1) + _letter(index % 26)


def _floating(table: Table, columns: Sequence[int], part: int, notes: _Notes, *, long: bool) -> str:
    shape = "".join("l" if table.columns[index].kind == "text" else "r" for index in columns)
    head = [r"\toprule", *_lines([_head(table.columns[index]) for index in columns], bottom=True), r"\midrule"]
    rows = [_row(row, [row.entries[index] for index in columns if index < len(row.entries)], notes) for row in table.rows]
    body = [line for index, row in enumerate(rows) for line in (*([r"\addlinespace[3pt]"] if index else []), *row)]
    caption = escape(table.caption) + (" (continued)" if part else "")
    label = "" if part else rf"\label{{tab:{file_slug(table.key)}}}"
    said = ". ".join(text.rstrip(".") for text in (escape(table.note), notes.text()) if text)
    legend = rf"{{\raggedright\footnotesize\noindent {said}.\par}}" if said else ""
    if long:
        return "\n".join(
            [
                r"\begingroup\small",
                rf"\begin{{longtable}}{{{shape}}}",
                rf"\caption{{{caption}}}{label}\\",
                *head,
                r"\endfirsthead",
                *head,
                r"\endhead",
                r"\bottomrule",
                r"\endlastfoot",
                *body,
                r"\end{longtable}",
                *([legend] if legend else []),
                r"\endgroup",
            ]
        )
    return "\n".join(
        [
            r"\begin{table}[tbp]",
            r"\centering\small",
            rf"\caption{{{caption}}}{label}",
            rf"\begin{{tabular}}{{{shape}}}",
            *head,
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            *([r"\par\smallskip", legend] if legend else []),
            r"\end{table}",
        ]
    )


def _head(column: Column) -> list[str]:
    lines = [escape(line) for line in textwrap.wrap(column.title, 16)]
    return [*lines, *(rf"{{\footnotesize {escape(line)}}}" for line in textwrap.wrap(column.below, 20))]


def _row(row: Row, entries: Sequence[Entry], notes: _Notes) -> list[str]:
    style = r"\itshape " if row.floor else ""
    return _lines([_cell(entry, style if index == 0 else "", notes) for index, entry in enumerate(entries)])


def _lines(cells: Sequence[list[str]], *, bottom: bool = False) -> list[str]:
    """Return rows of a tabular from cells of several lines each; `bottom` lets short cells end together rather than begin together."""
    tall = max((len(cell) for cell in cells), default=0)
    padded = [[*[""] * (tall - len(cell)), *cell] if bottom else cell for cell in cells]
    return [" & ".join(line) + r" \\" for line in zip_longest(*padded, fillvalue="")]


def _cell(entry: Entry, style: str, notes: _Notes) -> list[str]:
    """Return an entry's lines: what it says with its signs, then in small letters what stands below."""
    text, below = _traced(entry)
    first, *more = text
    first = {1: rf"\textbf{{{first}}}", 2: rf"\underline{{{first}}}"}.get(entry.rank or 0, first)
    above = "".join([*(escape(sign) for sign in entry.signs), ",".join(notes.letter(mark) for mark in entry.marks)])
    shown = [first + (rf"\textsuperscript{{{above}}}" if above else ""), *more]
    return [*(f"{{{style}{line}}}" if style else line for line in shown), *(rf"{{\footnotesize {line}}}" for line in below)]


def _traced(entry: Entry) -> tuple[list[str], list[str]]:
    """Return an entry's text and what stands below it, in lines, each number of the report in its macro."""
    wanted = list(entry.numbers)
    found: list[list[str]] = []
    for text, width in ((entry.text, 30), (entry.below, 26)):
        pieces: list[str] = []
        while wanted and (place := text.find(wanted[0][0])) >= 0:
            shown, key = wanted.pop(0)
            pieces += [escape(text[:place]), rf"\cxr{{{key}}}{{{escape(shown)}}}"]
            text = text[place + len(shown) :]
        # Only what holds no number is broken into lines: a name, a count of draws.
        rest = [escape(text)] if pieces else [escape(line) for line in textwrap.wrap(text, width)]
        found.append(["".join([*pieces, *rest])] if pieces else rest)
    return found[0] or [""], found[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A LaTeX document and the tables that it reads, by path beside it."""

    text: str
    tables: Mapping[str, str]


def document(report: Report, shown: Sequence[Section]) -> Document:
    """Return `report.tex`, which compiles beside its folders `tables` and `figures`."""
    tables = fragments(shown)
    lines = [
        r"\documentclass[10pt,a4paper]{article}",
        r"\usepackage[margin=22mm]{geometry}",
        r"\usepackage{booktabs,longtable,graphicx}",
        r"\setlength{\parindent}{0pt}\setlength{\parskip}{5pt plus 1pt}",
        r"\renewcommand{\floatpagefraction}{0.6}\renewcommand{\topfraction}{0.9}\renewcommand{\bottomfraction}{0.8}",
        r"\setlength{\abovecaptionskip}{0pt}\setlength{\belowcaptionskip}{6pt}",
        r"\renewcommand{\labelitemi}{$\bullet$}",
        MACRO,
        r"\begin{document}\sloppy",
        rf"{{\LARGE {escape(report.title)}\par}}",
        *([rf"{{\bfseries {escape(wording.made_data(sample=report.sample))}\par}}"] if report.made_data else []),
        *([rf"{escape(report.about)}\par"] if report.about else []),
        *_items(wording.CONTAMINATION, [one.sentence for one in report.contamination]),
        *_items("What the runs say", [f"{one.claim} {one.evidence}." for one in report.verdicts]),
        *_items("Notes", report.notes),
        *_items("Before you trust a number", report.warnings),
        *_sections(shown),
        r"\section*{Methods}",
        *(line for paragraph in report.methods for line in (escape(paragraph), "")),
        r"\end{document}",
    ]
    return Document(text="\n".join(lines) + "\n", tables={f"tables/{name}": text for name, text in tables.items()})


def _items(title: str, sentences: Sequence[str]) -> list[str]:
    if not sentences:
        return []
    return [rf"\section*{{{title}}}", r"\begin{itemize}", *(rf"\item {escape(one)}" for one in sentences), r"\end{itemize}"]


def _sections(shown: Sequence[Section]) -> list[str]:
    lines: list[str] = []
    for part in shown:
        lines += [r"\clearpage", rf"\section*{{{escape(part.test_set.title)}}}"]
        waiting = 0
        for block in part.blocks:
            floats = [
                *(_figure(figure) for figure in block.all_figures()),
                *(rf"\input{{tables/{file_slug(table.key)}.tex}}" for table in block.all_tables() if block.in_latex),
            ]
            for one in floats:
                # Without text between them floats only pile up, and LaTeX holds no more than some dozens.
                lines += [r"\clearpage"] if waiting == MOST_FLOATS else []
                waiting = 1 if waiting == MOST_FLOATS else waiting + 1
                lines.append(one)
    return [*lines, r"\clearpage"] if shown else lines


def _figure(figure: Figure) -> str:
    return "\n".join(
        [
            r"\begin{figure}[tbp]",
            r"\centering",
            # Never larger than it was drawn, never wider than the text.
            rf"\setbox0\hbox{{\includegraphics{{figures/{figure.key}.pdf}}}}%",
            rf"\ifdim\wd0>\linewidth\includegraphics[width=\linewidth]{{figures/{figure.key}.pdf}}\else\box0\fi",
            rf"\caption{{{escape(figure.caption)}}}\label{{fig:{figure.key}}}",
            r"\end{figure}",
        ]
    )
