"""Numbers as people write them: with their precision, their sign, a percent sign, `<`; and whether a value agrees."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import log10

#: What TeX puts around a number that is no part of it.
_DRESS = re.compile(
    r"\\(?:textbf|textit|emph|underline|mathbf|mathrm|text|num|ensuremath|bfseries|itshape|footnotesize|small)\b|[{}$~\s]|\\[,;:! ]"
)
_RELATIONS = {"<": "<", ">": ">", r"\lt": "<", r"\gt": ">", "≤": "<", "≥": ">", r"\le": "<", r"\leq": "<", r"\ge": ">", r"\geq": ">"}
_NUMBER = re.compile(
    r"(?P<relation>[<>≤≥]|\\(?:leq?|geq?|lt|gt)\b)?(?P<sign>[+\-−–]|\\textminus)?(?P<digits>\d{1,3}(?:,\d{3})+|\d*\.\d+|\d+)"
    r"(?:(?:\\times|\\cdot|×)10\^(?P<power>[-−]?\d+)|[eE](?P<exponent>[-+−]?\d+))?(?P<percent>\\?%)?"
)
#: Half a unit in the last place, and room for a last bit.
_HALF = 0.5 * (1 + 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A number in a text. `unit` is one unit of its last digit."""

    text: str
    value: float
    unit: float
    #: Empty, `<` or `>`.
    relation: str = ""
    percent: bool = False
    signed: bool = False


def read_number(text: str) -> Written | None:
    """Return the one number that a text holds, whatever TeX dresses it in; None where there is none, or more than one."""
    plain = _DRESS.sub("", text.replace("{,}", ",").replace(r"\%", "%").replace("\u00a0", "").replace("\u202f", ""))
    found = _NUMBER.fullmatch(plain)
    return None if found is None else _of(found, text.strip())


def _of(found: re.Match[str], text: str) -> Written:
    digits = found["digits"].replace(",", "")
    power = int((found["power"] or found["exponent"] or "0").replace("−", "-"))
    negative = (found["sign"] or "+") != "+"
    decimals = len(digits.partition(".")[2])
    return Written(
        text=text,
        value=(-1 if negative else 1) * float(digits) * 10.0**power,
        unit=10.0 ** (power - decimals),
        relation=_RELATIONS.get(found["relation"] or "", ""),
        percent=found["percent"] is not None,
        signed=found["sign"] is not None,
    )


def agrees(written: Written, value: float) -> bool:
    """Tell whether a value, rounded as the text rounds it, is what the text says. A share may be written as it is or in percent."""
    scales = [100.0] if written.percent else [1.0, *([100.0] if abs(value) <= 1 < abs(written.value) else [])]
    return any(_agrees(written, value * scale) for scale in scales)


def _agrees(written: Written, value: float) -> bool:
    if written.relation:
        return value < written.value if written.relation == "<" else value > written.value
    return abs(written.value - value) <= _HALF * written.unit


def as_written(written: Written, value: float) -> str:
    """Write a value with the precision and the scale of a number in a text."""
    in_percent = written.percent or abs(value) <= 1 < abs(written.value)
    scaled = value * (100 if in_percent else 1)
    # A bound says little of where a number is, so three digits more than it has.
    decimals = max(0, round(-log10(written.unit))) + (2 if written.relation else 0)
    shown = f"{scaled:{'+' if written.signed else ''}.{decimals}f}"
    return f"{shown} %" if written.percent else shown
