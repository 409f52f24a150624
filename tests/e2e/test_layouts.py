"""Data sets in their real layouts, from a cluster config that names where they lie to a result: nothing tells them from the real ones."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e.lab import Lab
from trainers.data.cards import load_card
from trainers.data.located import locate
from trainers.data.phantom.layout import write_made
from trainers.data.phantom.parameters import parameters_from

#: DICOM and three classes; lists of splits and PNG in two folders; packed tables, studies and lateral views.
CARDS = {"rsna": "lung_opacity", "chestxray14": "pleural_effusion", "mimic_cxr": "pleural_effusion"}
SWEEP = """sweep: floor
data: {card}
phases:
  score:
    trainer: thumbnail
    config: {{px: 32, labels: [{label}]}}
    draws: {{count: [24], repeats: 1}}
    pick: {{metric: val/loss, mode: min}}
    evaluate: [{{data: same, split: test}}]
report: {{measure: auroc/{label}}}
"""


@pytest.mark.parametrize("name", sorted(CARDS))
def test_a_data_set_as_it_was_downloaded_is_studied(tmp_path: Path, name: str) -> None:
    card = load_card(name)
    parameters = parameters_from({**card.made["parameters"], "patients_train": 80, "patients_valid": 24, "px": 32})
    data = write_made(tmp_path / "data" / name, parameters, card.reader).root
    (data / "MADE.json").unlink()
    lab = Lab(tmp_path / "lab")
    lab.configure(data={name: str(data)})
    sweep = lab.write("floor.yaml", SWEEP.format(card=name, label=CARDS[name]))
    verified = lab.type("data", "verify", name)
    assert verified.code == 0, verified.text
    done = lab.type("submit", sweep)
    assert done.code == 0, done.text
    assert "3 succeeded" in done.text
    predictions = pq.read_table(next(lab.run.root.rglob("predictions.parquet"))).to_pandas()
    place = locate(card, lambda place: data)
    rows = place.index()
    scored = rows.take(place.split_of(rows) == "test")
    assert set(predictions["patient"]) == set(scored.patients.tolist())
    truth = scored.labels[:, scored.label_names.index(CARDS[name])]
    positive = {patient for patient, value in zip(scored.patients.tolist(), truth.tolist(), strict=True) if value == 1}
    assert set(predictions.loc[predictions["truth"] == 1, "patient"]) == positive
    assert 0 < len(positive) < len(set(scored.patients.tolist()))
