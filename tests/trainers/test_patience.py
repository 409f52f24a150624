"""Early stopping: when a run ends, what counts as better, and a resume that goes on counting."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainers.toy import CPU, MONITOR, Config, FolderHost, Toy, kept_digest
from trainers.api import Outcome, Scores
from trainers.errors import Error
from trainers.loop import fit, prepare

LOSS = Config(epochs=40, stop_on="val/loss", save_every_steps=0)


class Scripted(Toy):
    """A toy whose validation says what a script says, epoch by epoch; it remembers what it is told in its state."""

    def __init__(self, config: Config, script: Sequence[float], name: str = "val/loss") -> None:
        super().__init__(config, 7)
        self.script, self.name = script, name
        self.told: list[float] = []

    def measured(self, scores: Scores) -> dict[str, float]:
        return {self.name: self.script[len(self.told)], "val/right": 0.5}

    def validated(self, metrics: Mapping[str, float]) -> None:
        self.told.append(metrics[self.name])

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "told": self.told}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.told = list(state["told"])


def run(folder: Path, config: Config, script: Sequence[float], stop_after: int = 0, name: str = "val/loss") -> tuple[Outcome, FolderHost]:
    prepare(7, 1, CPU)
    trainer, host = Scripted(config, script, name), FolderHost(folder)
    if stop_after:
        host.should_stop = lambda: len(host.losses()) >= stop_after
    return fit(trainer, config, host, device=CPU, measure=trainer.measured, monitor=MONITOR), host


def waited(host: FolderHost) -> list[float]:
    return [metrics["epoch/waited"] for _, _, metrics in host.lines if "epoch/waited" in metrics]


def test_a_patience_of_ten_ends_after_eleven_epochs_that_are_no_better(tmp_path: Path) -> None:
    outcome, host = run(tmp_path, dataclasses.replace(LOSS, patience=10), [0.7, 0.6, *[0.6] * 38])
    assert (outcome.finished, outcome.epoch, outcome.step) == (True, 2 + 11, 13 * 3)
    assert waited(host) == [0, 0, *range(1, 12)]
    assert outcome.metrics["epoch/waited"] == 11


def test_without_patience_a_run_goes_on_and_says_nothing_of_it(tmp_path: Path) -> None:
    outcome, host = run(tmp_path, dataclasses.replace(LOSS, epochs=5), [0.5] * 5)
    assert (outcome.epoch, waited(host)) == (5, [])


@pytest.mark.parametrize(
    ("name", "script", "epochs"),
    [
        ("val/loss", [0.5, 0.4, 0.3, 0.4, 0.35], 5),
        ("val/right", [0.5, 0.4, 0.3, 0.9, 0.95], 3),
        ("val/auroc_macro", [0.5, 0.6, 0.6, 0.6, 0.9], 4),
        # What is no number is no better, and is never what others are held against.
        ("val/loss", [0.5, math.nan, math.nan, 0.1, 0.2], 3),
        ("val/loss", [math.nan, 0.5, 0.4, 0.6, 0.3], 5),
    ],
)
def test_less_loss_is_better_and_more_of_anything_else(tmp_path: Path, name: str, script: list[float], epochs: int) -> None:
    config = dataclasses.replace(LOSS, epochs=5, patience=1, stop_on=name)
    assert run(tmp_path, config, script, name=name)[0].epoch == epochs


def test_looks_are_counted_and_not_epochs(tmp_path: Path) -> None:
    outcome, _ = run(tmp_path, dataclasses.replace(LOSS, patience=1, save_every_epochs=3), [0.5] * 40)
    assert outcome.epoch == 9


@pytest.mark.parametrize("stop_after", [1, 5, 9, 10, 14])
def test_a_run_that_was_stopped_by_a_signal_goes_on_counting(tmp_path: Path, stop_after: int) -> None:
    config, script = dataclasses.replace(LOSS, patience=2, save_every_steps=2), [0.7, 0.5, 0.6, 0.6, 0.6, 0.1]
    whole, undisturbed = run(tmp_path / "whole", config, script)
    assert whole.epoch == 5
    first, _ = run(tmp_path / "cut", config, script, stop_after=stop_after)
    assert not first.finished
    second, resumed = run(tmp_path / "cut", config, script)
    assert (second.finished, second.step, second.metrics) == (True, whole.step, whole.metrics)
    assert kept_digest(resumed) == kept_digest(undisturbed)


def test_a_resume_file_from_before_starts_to_count_anew(tmp_path: Path) -> None:
    config = dataclasses.replace(LOSS, epochs=4)
    run(tmp_path, config, [0.5] * 4, stop_after=5)
    file = FolderHost(tmp_path).latest_state()
    assert file is not None
    state = torch.load(file, weights_only=True)
    del state["progress"]["best"], state["progress"]["waited"]
    torch.save(state, file)
    assert run(tmp_path, config, [0.5] * 4)[0].finished


def test_a_metric_that_validation_does_not_write_is_named_with_those_it_does(tmp_path: Path) -> None:
    with pytest.raises(
        Error, match=r"config.stop_on: validation wrote no 'val/auroc', set one that it writes \(there are: val/loss, val/right\)"
    ):
        run(tmp_path, dataclasses.replace(LOSS, patience=1, stop_on="val/auroc"), [0.5] * 9)


def test_a_grid_of_examples_has_no_patience(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"config\.patience: counts looks at validation by epoch"):
        run(tmp_path, dataclasses.replace(LOSS, patience=1, save_every_examples=16), [0.5] * 9)
