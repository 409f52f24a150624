"""How little a command imports before it does anything: counted in modules, because seconds depend on the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What planning needs and help does not.
PLANNING = ("orchestrator.workspace", "orchestrator.expand", "orchestrator.loading", "orchestrator.clusters", "pydantic", "yaml", "rich")
#: What neither needs.
LATER = (
    "orchestrator.reference",
    "orchestrator.schema",
    "orchestrator.report.analysis",
    "numpy",
    "pandas",
    "scipy",
    "matplotlib",
    "pyarrow",
    "jinja2",
)


def imported(arguments: list[str], folder: Path) -> set[str]:
    """Run a command in a fresh process and return every module that it imported. Raises when it did not succeed."""
    listing = folder / "modules.txt"
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from orchestrator.cli import main\n"
        f"sys.argv = ['orchestrate', *{arguments!r}]\n"
        "try:\n    main()\n"
        "except SystemExit as leave:\n    assert not leave.code, leave.code\n"
        f"Path({str(listing)!r}).write_text(' '.join(sys.modules), encoding='utf-8')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    return set(listing.read_text(encoding="utf-8").split())


def test_help_imports_nothing_that_plans(tmp_path: Path) -> None:
    for arguments in (["--help"], ["plan", "--help"], ["data", "list", "--help"], ["--version"]):
        modules = imported(arguments, tmp_path)
        assert "orchestrator.cli" in modules and "typer" in modules
        # typer itself reads all options by pydantic, except that `--help` alone has none to read.
        mine = set(PLANNING) - (set() if arguments == ["--help"] else {"pydantic"})
        assert modules.isdisjoint({*mine, *LATER}), arguments


def test_a_plan_imports_nothing_that_runs_or_reports(tmp_path: Path) -> None:
    config = tmp_path / "here.yaml"
    config.write_text(f"backend: inline\nrun_root: {tmp_path}/runs\n", encoding="utf-8")
    modules = imported(["plan", "sweeps/quickstart.yaml", "--cluster", str(config)], tmp_path)
    assert modules >= set(PLANNING)
    assert modules.isdisjoint({*LATER, "orchestrator.running", "orchestrator.backends.ray", "orchestrator.tracking"})
