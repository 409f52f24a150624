"""What a no-op job costs under Ray.

Here: a plan of chains train -> pick -> evaluate through the whole seam (claim, events, result), as one Tune experiment of reused workers.
Beside it: a plain function trainable that returns at once, as the documentation of Ray Tune shows it, each trial a new worker. Both on two
slots, and both counted from the start of the first job to the end of the last: starting Ray is the same for both and is told apart.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.backends.base import Notice
from orchestrator.backends.ray_own import local_ray
from tests.bench.rows import Row
from tests.orchestrator import client


def ours(chains: int, root: Path) -> tuple[float, float]:
    """Return (seconds until the first job starts, seconds from there until the last has ended)."""
    times: list[float] = []

    def tell(notice: Notice) -> None:
        if notice.kind in ("started", "ended"):
            times.append(time.monotonic())

    begun = time.monotonic()
    summary = client.run_here(client.chains("c", 0.0, chains), root, "ray", notify=tell)
    if summary.exit_code:
        raise RuntimeError(f"the plan did not finish: {summary.counts}")
    return times[0] - begun, times[-1] - times[0]


def plain(trials: int, root: Path) -> float:
    """Return the seconds from the start of the first trial to the end of the last, for a function trainable."""
    with local_ray(client.cluster(root, "ray"), root / "plain.log") as folder:
        from ray import tune

        times: list[float] = []

        class Clock(tune.Callback):
            def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **_: object) -> None:
                times.append(time.monotonic())

            def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: object) -> None:
                times.append(time.monotonic())

        def no_op(config: dict[str, int]) -> dict[str, int]:
            return {"seen": config["n"]}

        tune.Tuner(
            no_op,
            param_space={"n": tune.grid_search(list(range(trials)))},
            run_config=tune.RunConfig(name="plain", storage_path=str(folder / "plain"), verbose=0, callbacks=[Clock()]),
        ).fit()
    return times[-1] - times[0]


def measure(chains: int = 20, trials: int = 20) -> list[Row]:
    """Run both, and return what a job of each costs."""
    with _folder() as root:
        until_first, seconds = ours(chains, root / "ours")
        each = seconds / (3 * chains)
    with _folder() as root:
        other = plain(trials, root) / trials
    return [
        Row(
            what="a no-op job",
            ours=f"{each:.3f} s",
            beside=f"{other:.3f} s (a plain function trainable)",
            against=f"{other / each:.0f} times faster; aim 0.2 s",
            note=f"{3 * chains} dependent jobs here, {trials} independent trials beside",
        ),
        Row(what="until the first job starts", ours=f"{until_first:.1f} s", note="a Ray of its own is started"),
    ]


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        yield Path(folder)
