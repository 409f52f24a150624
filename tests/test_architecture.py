"""Conventions as failing tests: walls, names, sizes, and what a plan must not import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("orchestrator", "jobs", "trainers")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
HEAVY = ("torch", "torchvision", "timm", "ray", "submitit", "mlflow")
SHIPPED_SWEEPS = sorted(path for path in (ROOT / "sweeps").glob("*.yaml"))


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("sweep", SHIPPED_SWEEPS, ids=lambda path: path.stem)
def test_planning_a_sweep_imports_nothing_heavy(sweep: Path, tmp_path: Path) -> None:
    config = tmp_path / "here.yaml"
    config.write_text(f"backend: inline\nrun_root: {tmp_path}/runs\nmade_root: {tmp_path}/made\n", encoding="utf-8")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from orchestrator.workspace import Workspace\n"
        f"plan = Workspace.open({str(config)!r}, sample=True).plan(Path({str(sweep)!r}))\n"
        "assert plan.jobs\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_help_imports_nothing_heavy() -> None:
    lazy = (*HEAVY, "numpy", "pandas", "matplotlib", "pyarrow")
    code = f"import sys, orchestrator.cli\nprint([name for name in {lazy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "jobs").glob("*.py")))
def test_the_seam_is_standard_library(name: str) -> None:
    allowed = {*sys.stdlib_module_names, "jobs", "trainers"}
    tree = ast.parse((ROOT / "jobs" / f"{name}.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {one.split(".")[0] for one in imported} <= allowed
    assert {one for one in imported if one.startswith("trainers")} <= {"trainers", "trainers.errors", "trainers.slugs"}


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("ray", {"orchestrator/backends/ray.py", "orchestrator/backends/ray_search.py"}),
        ("mlflow", {"orchestrator/tracking.py", "orchestrator/tracking_store.py"}),
    ],
)
def test_a_heavy_library_is_imported_in_one_place(library: str, homes: set[str]) -> None:
    pattern = re.compile(rf"^\s*(import|from)\s+{library}(\.|\s)", re.MULTILINE)
    found = {relative(path) for path in SOURCES if pattern.search(path.read_text(encoding="utf-8"))}
    assert found == homes


def test_submitit_is_imported_by_the_slurm_backend_alone() -> None:
    pattern = re.compile(r"^\s*(import|from)\s+submitit(\.|\s)", re.MULTILINE)
    found = {path.parent.relative_to(ROOT).as_posix() for path in SOURCES if pattern.search(path.read_text(encoding="utf-8"))}
    assert found == {"orchestrator/backends/slurm"}


def test_no_file_says_nothing_by_its_name() -> None:
    banned = re.compile(r"(utils?|helpers?|common|misc|base_.*)\.py")
    assert [relative(path) for path in SOURCES if banned.fullmatch(path.name)] == []


def test_files_stay_short() -> None:
    assert [relative(path) for path in SOURCES if len(path.read_text(encoding="utf-8").splitlines()) > 400] == []


def test_init_files_hold_a_docstring_and_nothing_else() -> None:
    for path in SOURCES:
        if path.name == "__init__.py":
            body = ast.parse(path.read_text(encoding="utf-8")).body
            extra = [node for node in body[1:] if not (isinstance(node, ast.Assign) and ast.unparse(node).startswith("__version__"))]
            assert isinstance(body[0], ast.Expr), relative(path)
            assert extra == [], relative(path)


def test_every_public_function_has_a_docstring() -> None:
    bare: list[str] = []
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        public = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")]
        bare += [f"{relative(path)}:{node.lineno} {node.name}" for node in public if ast.get_docstring(node) is None]
    assert bare == []


def test_weights_are_never_loaded_loosely() -> None:
    loose = [relative(path) for path in SOURCES if re.search(r"load_state_dict\([^)]*strict=False", path.read_text(encoding="utf-8"))]
    assert loose == []
    unsafe = [
        f"{relative(path)}: {call}"
        for path in SOURCES
        for call in re.findall(r"torch\.load\([^)]*\)", path.read_text(encoding="utf-8"))
        if "weights_only=True" not in call
    ]
    assert unsafe == []


def test_trainers_read_no_environment_and_decide_nothing_by_data_set_name() -> None:
    trainers = [path for path in SOURCES if relative(path).startswith("trainers/")]
    for path in trainers:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"os\.environ|SLURM_|import argparse|ArgumentParser", text), relative(path)
        assert not re.search(r"==\s*[\"'](chexpert|kermany16|phantom|chestxray14|mimic|vindr|rsna|shenzhen)[\"']", text), relative(path)


def test_every_directory_at_the_top_is_in_the_layout() -> None:
    listed = subprocess.run(["git", "ls-tree", "--name-only", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    allowed = {
        "orchestrator", "jobs", "trainers", "sweeps", "cluster_configs", "tests", "docs", "pyproject.toml", "README.md", "Makefile",
        "requirements.lock", "mkdocs.yml", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE", "NOTICE",
    }  # fmt: skip
    assert {name for name in listed.stdout.split() if not name.startswith(".")} <= allowed
