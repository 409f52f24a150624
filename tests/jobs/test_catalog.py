"""What declarations may say, which installed package a trainer comes from, and where that is recorded."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.catalog import find_trainers, installed_with
from jobs.main import _write_environment
from jobs.paths import RunPaths
from orchestrator.explanation import _package
from tests.orchestrator.standin import job
from trainers.errors import Error

CONFIG = '''"""Nothing."""
from dataclasses import dataclass

NAME = "installed_elsewhere"
VERSION = 1

@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    px: int = 32
'''


@pytest.fixture
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package with a trainer, as pip leaves it."""
    files = {
        "package_elsewhere/__init__.py": "",
        "package_elsewhere/config.py": CONFIG,
        "trainer_elsewhere-2.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: trainer-elsewhere\nVersion: 2.1\n",
        "trainer_elsewhere-2.1.dist-info/entry_points.txt": "[cxr_orchestrator.trainers]\nelsewhere = package_elsewhere\n",
    }
    for name, text in files.items():
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "site" / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    yield
    for name in ("package_elsewhere", "package_elsewhere.config"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("_installed")
def test_an_installed_trainer_is_recorded_with_its_package_and_explained(tmp_path: Path) -> None:
    assert find_trainers()["installed_elsewhere"].package == "package_elsewhere"
    assert installed_with("installed_elsewhere") == "trainer-elsewhere 2.1"
    assert installed_with("thumbnail") == ""
    run, spec = RunPaths(tmp_path), replace(job("a"), trainer="installed_elsewhere")
    paths = run.job(spec.job_id)
    assert _package(paths, spec) == "trainer-elsewhere 2.1"
    attempt = paths.attempt(1)
    attempt.folder.mkdir(parents=True)
    _write_environment(attempt, spec, None)
    environment = json.loads(attempt.env.read_text())
    assert environment["trainer_package"] == "trainer-elsewhere 2.1"
    # What ran is told, whatever is installed by now.
    attempt.env.write_text(json.dumps(environment | {"trainer_package": "trainer-elsewhere 1.9"}))
    assert _package(paths, spec) == "trainer-elsewhere 1.9"


def test_a_trainer_of_this_project_has_no_package(tmp_path: Path) -> None:
    attempt = RunPaths(tmp_path).job("ab" * 32).attempt(1)
    attempt.folder.mkdir(parents=True)
    _write_environment(attempt, job("a"), None)
    assert "trainer_package" not in json.loads(attempt.env.read_text())


@pytest.mark.parametrize(
    ("presets", "said"),
    [
        ('{"paper": {"pxs": (64, "why")}}', "PRESETS['paper']: the config has no key 'pxs'; did you mean 'px'?"),
        ('{"paper": {"px": 64}}', "PRESETS['paper']['px']: write (value, why)"),
        ('{"paper": {"px": (64, "")}}', "PRESETS['paper']['px']: write (value, why)"),
        ('{"As Paper": {"px": (64, "why")}}', "PRESETS['As Paper']: a preset has a name of lower-case letters"),
        ('{"paper": {"px": (0, "why")}}', "PRESETS['paper']: px: 0 is too small"),
    ],
)
def test_a_preset_that_its_trainer_could_not_take_is_refused_when_it_is_read(tmp_path: Path, presets: str, said: str) -> None:
    folder = tmp_path / f"preset_trainer_{abs(hash(presets))}"
    folder.mkdir()
    guard = "\n\n    def __post_init__(self):\n        if self.px < 1:\n            raise ValueError(f'px: {self.px} is too small')\n"
    text = CONFIG.replace("installed_elsewhere", folder.name) + guard
    (folder / "config.py").write_text(f"{text}\nPRESETS = {presets}\n", encoding="utf-8")
    with pytest.raises(Error) as caught:
        find_trainers([tmp_path])
    assert said in str(caught.value) and folder.name in str(caught.value)
    sys.path.remove(str(tmp_path))
