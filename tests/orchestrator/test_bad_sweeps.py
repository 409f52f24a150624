"""Every sweep of `bad_sweeps/loading.yaml` is refused with exactly the message that stands beside it."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from orchestrator.errors import SweepError
from orchestrator.loading import load_sweep
from tests.golden.trainers import CATALOG
from trainers.errors import DataError

TABLE = yaml.safe_load((Path(__file__).parent / "bad_sweeps" / "loading.yaml").read_text(encoding="utf-8"))
CARDS = ("chexpert", "mimic", "shenzhen")


def find_card(name: str) -> str:
    """Stand in for the lookup of cards: the name, or the error that a missing card raises."""
    if name not in CARDS:
        near = difflib.get_close_matches(name, CARDS, n=1)
        raise DataError(f"no data set card '{name}': " + (f"did you mean '{near[0]}'?" if near else f"there are {', '.join(CARDS)}"))
    return name


@pytest.mark.parametrize("case", TABLE, ids=[case["name"] for case in TABLE])
def test_a_bad_sweep_is_refused_with_its_message(case: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text(case["sweep"], encoding="utf-8")
    with pytest.raises(SweepError) as caught:
        load_sweep(Path("bad.yaml"), catalog=CATALOG, cards=find_card)
    assert str(caught.value).rstrip("\n") == case["error"].rstrip("\n")


def test_each_fails_another_check() -> None:
    assert len(TABLE) >= 60
    sentences = Counter(re.sub(r"^bad\.yaml(:\d+)*: ", "", case["error"].split("\n")[0]) for case in TABLE)
    assert [sentence for sentence, times in sentences.items() if times > 1] == []


def test_each_points_into_its_file() -> None:
    for case in TABLE:
        head, *shown = case["error"].rstrip("\n").split("\n")
        place = re.match(r"bad\.yaml:(\d+):(\d+): ", head)
        assert place is not None, case["name"]
        lines = [*case["sweep"].split("\n"), ""]
        assert int(place[1]) <= len(lines)
        if shown:
            assert shown == [f"  {lines[int(place[1]) - 1]}", f"  {' ' * (int(place[2]) - 1)}^"]
