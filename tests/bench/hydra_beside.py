"""Hydra on the same points, in an environment of its own: `hydra_beside.py compose|launch FOLDER POINTS`.

Prints the seconds from the call of Hydra to the last config, or to the return of the one sbatch that its submitit launcher makes. Jobs are
held, so that none of them runs; the process ends there, because the launcher would wait for them.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

CONFIG = """\
defaults: [_self_, {launcher}]
arch: resnet18
init: random
px: 224
channels: 1
epochs: 50
batch_size: 64
lr: 0.001
weight_decay: 0.05
layer_decay: 1.0
drop_path: 0.0
warmup: 0.05
schedule: cosine
augment: cxr_plus
normalization: cxr
labels: []
penalties: [0.1, 1.0, 10.0]
grad_clip: 0.0
precision: fp32
save_every_epochs: 1
keep_best: 1
hydra:
  sweep: {{dir: {folder}/multirun}}
"""
LAUNCHER = """\
  launcher:
    submitit_folder: {folder}/submitit
    partition: normal
    timeout_min: 60
    additional_parameters: {{hold: true, mem: 4096MB}}
"""


def compose(folder: Path, points: int) -> float:
    """Compose the config of every point of a grid."""
    from hydra import compose as compose_one
    from hydra import initialize_config_dir

    (folder / "config.yaml").write_text(CONFIG.format(folder=folder, launcher=""), encoding="utf-8")
    with initialize_config_dir(config_dir=str(folder), version_base=None):
        compose_one("config")
        started = time.perf_counter()
        for number in range(points):
            made = compose_one("config", overrides=[f"lr={1e-5 * (number % 10 + 1)}", f"weight_decay={0.01 * (number // 10 + 1)}"])
            assert made.epochs == 50
        return time.perf_counter() - started


def launch(folder: Path, points: int) -> None:
    """Launch a multirun of a grid through the submitit launcher, and end as soon as it is submitted."""
    import hydra
    import submitit

    text = CONFIG.format(folder=folder, launcher="{override hydra/launcher: submitit_slurm}") + LAUNCHER.format(folder=folder)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    submit = submitit.AutoExecutor.map_array

    def map_array(self: object, *arguments: object) -> None:
        submitit.AutoExecutor.map_array = submit
        jobs = submit(self, *arguments)
        assert len(jobs) == points
        print(time.perf_counter() - started, flush=True)
        os._exit(0)

    submitit.AutoExecutor.map_array = map_array
    tens = ",".join(f"{1e-5 * (number + 1):g}" for number in range(10))
    rest = ",".join(f"{0.001 * (number + 1):g}" for number in range(points // 10))
    sys.argv = ["hydra_beside.py", "--multirun", f"lr={tens}", f"weight_decay={rest}"]
    app = hydra.main(version_base=None, config_path=str(folder), config_name="config")(body)
    started = time.perf_counter()
    app()


def body(config: object) -> None:
    """Do nothing: no job of this bench runs."""
    del config


if __name__ == "__main__":
    command, place, count = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    if command == "compose":
        print(compose(place, count))
    else:
        launch(place, count)
