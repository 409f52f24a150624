"""A job asks nobody over a network, whatever tracker its environment names: a server that is down or slow costs it nothing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from tests.jobs.study import ROOT, lay

SWEEP = """sweep: alone
data: tiny
phases:
  finetune:
    trainer: classification
    config: {arch: slim, px: 32, epochs: 2, batch_size: 8}
    pick: {metric: val/auroc_macro}
    evaluate: [{data: same, split: test}]
"""
#: Runs jobs, and says what they asked of a network and whether they know the tracker.
_WATCHED = """
import json, sys
from pathlib import Path
asked = []
def heard(event, given):
    reaches = event in ("socket.connect", "socket.sendto") and isinstance(given[1], tuple)
    if reaches or event in ("socket.getaddrinfo", "socket.gethostbyname"):
        asked.append([event, str(given[1:])])
sys.addaudithook(heard)
from jobs import main
codes = [main.run(Path(file)) for file in sys.argv[2:]]
Path(sys.argv[1]).write_text(json.dumps([codes, asked, "mlflow" in sys.modules]))
"""


def test_a_study_of_jobs_asks_nobody(tmp_path: Path) -> None:
    study = lay(tmp_path, SWEEP)
    files = [str(study.paths(job).job) for job in study.plan.jobs]
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        command = [sys.executable, "-c", _WATCHED, str(tmp_path / "said"), *files]
        subprocess.run(command, cwd=ROOT, env={**os.environ, "MLFLOW_TRACKING_URI": address}, check=True)
        nobody.setblocking(False)
        try:
            nobody.accept()
        except BlockingIOError:
            pass
        else:
            raise AssertionError("somebody came")
    assert len(files) == 3
    assert json.loads((tmp_path / "said").read_text()) == [[0, 0, 0], [], False]


def test_what_is_asked_is_heard(tmp_path: Path) -> None:
    """The watch itself: a job that asked would be seen."""
    asking = _WATCHED.replace("from jobs import main", "import socket; socket.socket(type=socket.SOCK_DGRAM).connect(('127.0.0.1', 9))")
    asking = asking.replace("main.run(Path(file))", "0")
    subprocess.run([sys.executable, "-c", asking, str(tmp_path / "said")], cwd=ROOT, check=True)
    assert [event for event, _ in json.loads((tmp_path / "said").read_text())[1]] == ["socket.connect"]
