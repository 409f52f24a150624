"""The MLflow UI as people see it: started for real, opened in a browser, looked at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from jobs.paths import RunPaths
from orchestrator import tracking
from orchestrator.errors import TrackingError
from orchestrator.mirror import ui as mlflow_ui
from orchestrator.mirror.ui import UiCommand
from orchestrator.mirror.views import CURVES, DRAWS, LINES
from tests.orchestrator.mirror.mirrored import runs_of
from tests.orchestrator.mirror.played import SWEEP, Player, plan_of
from tests.orchestrator.mirror.servers import answering, free_port
from tests.orchestrator.mirror.test_curves import report_of, write_report

BROWSER = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
BROWSER += " --disable-component-update --disable-sync"
#: What MLflow's own page says of itself: it has no users here, and its table and layout complain.
NOT_OURS = ("404 (Not Found)", "ResizeObserver", "AG Grid")
PATIENCE = 90_000
#: A folder that the pictures are kept in, for the documentation (`make screenshots`).
SCREENSHOTS = "SCREENSHOTS"
SHOWN = ("draws", "lines", "curves", "boxes")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    folder = tmp_path_factory.mktemp("ui")
    plan = plan_of(folder)
    found = RunPaths(folder / "run")
    Player(run=found).play(plan.jobs)
    write_report(found, report_of())
    tracking.sync(plan, found, code="1.0+gabc")
    return found


@pytest.fixture(scope="module")
def ui(run: RunPaths) -> Iterator[UiCommand]:
    with answering(mlflow_ui.serve(run, port=free_port())) as command:
        yield command


@dataclass(slots=True)
class Seen:
    """A page, what its console said and whom it asked."""

    page: Any
    errors: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)

    def open(self, address: str, *texts: str) -> None:
        """Open an address and wait until it shows some texts."""
        self.page.goto(address)
        for text in texts:
            self.page.get_by_text(text, exact=False).first.wait_for(timeout=PATIENCE)

    def picture(self, path: Path) -> None:
        """Take a screenshot once fonts and charts have settled; the page itself never stops asking for news."""
        self.page.wait_for_timeout(2500)
        self.page.screenshot(path=str(path))
        assert path.stat().st_size > 20_000
        if SCREENSHOTS in os.environ and path.stem in SHOWN:
            keep(path, Path(os.environ[SCREENSHOTS]) / f"mlflow_{path.name}")


def keep(picture: Path, place: Path) -> None:
    """Write a picture smaller, for the documentation: half its size and 128 colours."""
    from PIL import Image

    with Image.open(picture) as opened:
        small = opened.convert("RGB").crop((0, 0, 1215, opened.height)).resize((911, opened.height * 3 // 4), Image.Resampling.LANCZOS)
    small.quantize(128).save(place, optimize=True)


@pytest.fixture
def seen() -> Iterator[Seen]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=BROWSER.split())
        found = Seen(page=browser.new_page(viewport={"width": 1600, "height": 1000}))
        found.page.on("console", lambda said: found.errors.append(said.text) if said.type == "error" else None)
        found.page.on("pageerror", lambda error: found.errors.append(str(error)))
        found.page.on("request", lambda request: found.asked.add(request.url))
        yield found
        browser.close()
    assert [error for error in found.errors if not any(known in error for known in NOT_OURS)] == []
    assert found.asked
    assert [url for url in found.asked if not url.startswith(("http://127.0.0.1:", "data:", "blob:"))] == []


@pytest.mark.needs("chromium")
def test_an_experiment_opens_on_its_draws(ui: UiCommand, seen: Seen, tmp_path: Path) -> None:
    address = mlflow_ui.links(ui)["play"]
    # The runs that a pick chose, in their groups, with the columns of the study; everything else is left out by the view's filter.
    seen.open(address, "finetune-none-0.1-d01", "finetune/after=none|fraction=0.1", "test/phantom/auroc_macro")
    seen.picture(tmp_path / "draws.png")
    body = seen.page.inner_text("body")
    assert "Draws by cell" in body
    assert "\npretrain-lr=0.0001\n" not in body
    assert "6 matching runs" in body


@pytest.mark.needs("chromium")
def test_the_ui_draws_label_efficiency_curves(ui: UiCommand, seen: Seen, tmp_path: Path) -> None:
    seen.open(f"{ui.address}/{mlflow_ui.page('1', CURVES)}", "play report", "Label-efficiency curves", "curve/no pretraining")
    # Charts are drawn by plotly: two of them, the arms as lines in the first, their bounds too in the second.
    seen.page.locator(".js-plotly-plot .scatterlayer").nth(1).wait_for(timeout=PATIENCE)
    seen.picture(tmp_path / "curves.png")
    plots = seen.page.locator(".js-plotly-plot")
    assert plots.count() == 2
    drawn = "plot => plot.data.filter(one => one.x && one.x.length).map(one => [Array.from(one.x), Array.from(one.y)])"
    lines = [
        {(tuple(steps), tuple(round(value, 9) for value in values)) for steps, values in plots.nth(index).evaluate(drawn)}
        for index in (0, 1)
    ]
    arms = {((20, 200), (0.75, 0.75)), ((20, 200), (0.7, 0.7))}
    assert lines == [arms, arms | {((20, 200), (0.6, 0.6)), ((20,), (0.8,))}]


@pytest.mark.needs("chromium")
def test_draws_are_lines_through_labels_and_measures(ui: UiCommand, seen: Seen, tmp_path: Path) -> None:
    address = mlflow_ui.further_links(ui, "play")["draws as lines"]
    assert address == f"{ui.address}/{mlflow_ui.page('1', LINES)}"
    seen.open(address, "Draws as lines", "finetune-none-0.1-d01")
    seen.page.locator(".parcoords .dimension").nth(2).wait_for(timeout=PATIENCE)
    seen.picture(tmp_path / "lines.png")
    axes = seen.page.locator(".parcoords .dimension .label").all_text_contents()
    # The UI shortens long names.
    assert axes[:2] == ["after", "label_fraction"] and axes[2].startswith("test/p") and len(axes) == 3
    ticks = {tick.strip() for tick in seen.page.locator(".parcoords .dimension .tick").all_text_contents()}
    assert {"none", "pretrain"} <= ticks


@pytest.mark.needs("chromium")
def test_draws_are_boxes_on_the_page_that_compares(ui: UiCommand, seen: Seen, tmp_path: Path) -> None:
    seen.open(mlflow_ui.further_links(ui, "play")["box plots (tab Box Plot)"], "Box Plot", "finetune-none-0.1-d01")
    seen.page.get_by_role("tab", name="Box Plot").click()
    for axis, name in (("x", "after"), ("y", "test/phantom/auroc_macro")):
        seen.page.locator(f"#{axis}-axis-selector").click()
        seen.page.get_by_role("option", name=name, exact=True).click()
    plot = seen.page.locator(".js-plotly-plot").first
    plot.locator(".boxlayer .trace").nth(1).wait_for(timeout=PATIENCE)
    seen.picture(tmp_path / "boxes.png")
    # Two arms, three draws each.
    assert plot.evaluate("plot => plot.data.map(one => [one.type, one.y.length])") == [["box", 3], ["box", 3]]


@pytest.mark.needs("chromium")
def test_draws_are_compared(ui: UiCommand, run: RunPaths, seen: Seen, tmp_path: Path) -> None:
    runs = runs_of(run, "play")
    chosen = {name: one for name, one in runs.items() if name.startswith("finetune-none")}
    identities = json.dumps([one.info.run_id for one in chosen.values()])
    address = f'{ui.address}/#/compare-runs?runs={identities}&experiments=["1"]&workflowType=machine_learning'
    value = next(iter(chosen.values())).data.metrics["test/phantom/auroc_macro"]
    seen.open(address, *chosen, "test/phantom/auroc_macro", "label_fraction", f"{value:.3f}")
    seen.picture(tmp_path / "compare.png")


@pytest.mark.needs("chromium")
def test_a_run_shows_its_numbers_its_table_and_the_report(ui: UiCommand, run: RunPaths, seen: Seen, tmp_path: Path) -> None:
    runs = runs_of(run, "play")
    one = runs["finetune-none-1.0-d00"].info.run_id
    seen.open(f"{ui.address}/#/experiments/1/runs/{one}/artifacts/tables/test.json?workflowType=machine_learning", "auroc/edema", "phantom")
    seen.picture(tmp_path / "table.png")
    report = runs["play report"].info.run_id
    seen.open(f"{ui.address}/#/experiments/1/runs/{report}?workflowType=machine_learning", "No difference shown.", "play report")
    seen.picture(tmp_path / "report.png")


def test_the_ui_is_for_this_machine_only(ui: UiCommand) -> None:
    assert ui.address.startswith("http://127.0.0.1:")
    assert ui.environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert not any("sqlite" in argument for argument in ui.arguments)
    port = int(ui.address.rpartition(":")[2])
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"]
    assert [address for address in listening if address.endswith(f":{port:04X}")] == [f"0100007F:{port:04X}"]


def test_a_server_is_a_store_too(ui: UiCommand, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    plan = plan_of(tmp_path, SWEEP.replace("sweep: play", "sweep: sequel"))
    run = RunPaths(tmp_path / "run")
    Player(run=run).play(plan.jobs)
    first = tracking.sync(plan, run, uri=ui.address)
    assert (first.created, first.metrics > 0) == (11, True)
    second = tracking.sync(plan, run, uri=ui.address)
    assert (second.created, second.updated, second.metrics) == (0, 0, 0)
    assert list(mlflow_ui.links(ui)) == ["play", "sequel"]
    assert capfd.readouterr() == ("", "")


def test_what_keeps_the_ui_from_starting_is_said(ui: UiCommand, run: RunPaths, tmp_path: Path) -> None:
    port = int(ui.address.rpartition(":")[2])
    with pytest.raises(TrackingError, match=rf"port {port} .* is in use; type `orchestrate ui --port {port + 1}`"):
        mlflow_ui.serve(run, port=port)
    with pytest.raises(TrackingError, match="nothing was synced"):
        mlflow_ui.serve(RunPaths(tmp_path), port=free_port())
    with pytest.raises(TrackingError, match="open http://there:5000 in a browser"):
        mlflow_ui.serve(run, uri="http://there:5000", port=free_port())
    broken = UiCommand(
        arguments=(sys.executable, "-c", "raise SystemExit(3)"), environment={}, folder=tmp_path, address="http://127.0.0.1:9"
    )
    with pytest.raises(TrackingError, match=r"did not come up; its log is .*ui\.log"):
        mlflow_ui.show(broken, print)


_SHOW = """
import signal, sys
# A shell that starts this suite in the background has Ctrl-C ignored, and that is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from jobs.paths import RunPaths
from orchestrator.mirror import ui as mlflow_ui
say = lambda text: print(text, flush=True)
raise SystemExit(mlflow_ui.show(mlflow_ui.serve(RunPaths(Path(sys.argv[1])), port=int(sys.argv[2])), say))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_ui_says_where_it_is_and_leaves_nothing_behind(run: RunPaths, number: signal.Signals) -> None:
    port = free_port()
    shown = subprocess.Popen(
        [sys.executable, "-c", _SHOW, str(run.root), str(port)], stdout=subprocess.PIPE, text=True, cwd=Path(tracking.__file__).parents[1]
    )
    assert shown.stdout is not None
    try:
        said: list[str] = []
        while not said or not said[-1].startswith("MLflow UI: "):
            said.append(shown.stdout.readline())
            assert said[-1], "it ended before it answered"
    finally:
        shown.send_signal(number)
    assert shown.wait(timeout=60) == 0
    assert said[0] == f"play: http://127.0.0.1:{port}/{mlflow_ui.page('1', DRAWS)}\n"
    assert said[-1] == f"MLflow UI: http://127.0.0.1:{port} (Ctrl-C ends it)\n"
    assert not _mentioning(str(port))


def _mentioning(text: str) -> list[str]:
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if f"--port {text}" in line and int(process.name) != os.getpid():
            found.append(line)
    return found
