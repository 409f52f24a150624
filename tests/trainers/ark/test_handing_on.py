"""What Ark hands on: the teacher's backbone starts a classifier, and nothing else of the file is used or unexplained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from tests.trainers.ark.made_sources import TINY, setup_of, source
from tests.trainers.ark.test_ark import run
from trainers.api import Parent, Setup
from trainers.classification import train as classification
from trainers.classification.config import Config as Classifier
from trainers.states import write_weights
from trainers.weights import fingerprint


def test_a_classifier_after_ark_starts_from_the_teachers_backbone(tmp_path: Path) -> None:
    config = replace(TINY, epochs=1, ema="pass")
    _, _, method = run(setup_of(config), tmp_path / "ark")
    file = tmp_path / "teacher.safetensors"
    write_weights(method.exported, file)
    access = source("alpha")
    setup = Setup(
        config=Classifier(arch="slim", px=32),
        seed=1,
        data=access,
        sources=(access,),
        labels=access.label_names,
        parents={"init": Parent(files=(file,), trainer="ark", config={"arch": "slim", "channels": 1})},
        device=torch.device("cpu"),
    )
    classifier = classification.build(setup)
    assert fingerprint(classifier.module.backbone) == fingerprint(method.teacher.backbone) != fingerprint(method.module.backbone)
    report = classifier.report
    assert report is not None and not report.missing
    assert report.owners == {"projector": 2, "heads by source": 6}
    assert set(report.dropped) == {name for name in method.teacher.state_dict() if not name.startswith("backbone.")}
