"""Cluster configs: what they say, and how a wrong one is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.clusters import CLUSTER, load_cluster
from orchestrator.errors import ClusterError
from orchestrator.model import ClusterConfig, Limits, Partition, SlurmSite, WholeNodes
from orchestrator.notify.settings import Notify

SHIPPED = Path(__file__).parents[2] / "cluster_configs"
FULL = """\
about: A site.
backend: slurm
run_root: $SCRATCH/runs
made_root: ${SCRATCH}/made
data_root: ~/data
data: {chexpert: /data/CheXpert}
weights: {imagenet: weights/imagenet.pt, resnet18: weights/resnet18.pt}
mlflow: http://127.0.0.1:5000
partitions:
  gpu: {gpus: 8, cpus: 64, memory: 500G, max_time: 2-00:00:00}
  cpu: {cpus: 32, memory: 128G, account: others, qos: short, constraint: avx512}
account: radiology
setup: [module load cuda, source .venv/bin/activate]
container: $SCRATCH/cxr.sif
limits: {max_queued: 500, gpu_hours: 2000}
notify: {webhook_env: HOOK, email: [me@lab.org], smtp: "mail.lab.org:25", on: [end, budget]}
slurm: {sync: true, qos: long, gres: "gpu:a100", exclude: [n7], accounting: false, array_size: 500, signal_lead: 60,
  extra: {reservation: mine}}
allocation: {nodes: 2, time: 6h, partition: gpu}
trainer_paths: [methods]
card_paths: [cards]
cpus: 16
gpus: 0
"""


def test_every_key_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.setenv("HOME", "/home/me")
    Path("site.yaml").write_text(FULL)
    assert load_cluster("site.yaml") == ClusterConfig(
        name="site",
        backend="slurm",
        run_root=Path("/scratch/me/runs"),
        made_root=Path("/scratch/me/made"),
        data_root=Path("/home/me/data"),
        data={"chexpert": Path("/data/CheXpert")},
        weights={"imagenet": tmp_path / "weights/imagenet.pt", "resnet18": tmp_path / "weights/resnet18.pt"},
        mlflow="http://127.0.0.1:5000",
        partitions=(
            Partition(name="gpu", gpus=8, cpus=64, memory_mb=512000, max_time_minutes=2880),
            Partition(name="cpu", cpus=32, memory_mb=131072, account="others", qos="short", constraint="avx512"),
        ),
        account="radiology",
        setup=("module load cuda", "source .venv/bin/activate"),
        container="/scratch/me/cxr.sif",
        limits=Limits(max_queued=500, gpu_hours=2000),
        notify=Notify(webhook_env="HOOK", email=("me@lab.org",), smtp="mail.lab.org:25", on=("end", "budget")),
        slurm=SlurmSite(
            sync=True,
            qos="long",
            gres="gpu:a100",
            exclude=("n7",),
            accounting=False,
            array_size=500,
            signal_lead=60,
            extra={"reservation": "mine"},
        ),
        allocation=WholeNodes(nodes=2, time_minutes=360, partition="gpu"),
        trainer_paths=(tmp_path / "methods",),
        card_paths=(tmp_path / "cards",),
        cpus=16,
        gpus=0,
    )


def test_the_full_example_has_every_key() -> None:
    import yaml

    assert set(yaml.safe_load(FULL)) == set(CLUSTER.keys)


def test_the_default_is_local_and_paths_are_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_cluster()
    assert (config.name, config.backend, config.cpus) == ("local", "ray", None)
    assert (config.run_root, config.made_root, config.data_root) == (tmp_path / "runs", tmp_path / "runs/made", tmp_path / "data")


def test_without_a_word_mistakes_are_braked_and_records_are_asked(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text("run_root: /elsewhere\nbackend: slurm\n")
    site = load_cluster("site", search=(tmp_path,)).slurm
    assert (site.canary, site.stop_after, site.accounting) == (10, 3, True)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_loads(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    assert load_cluster(path.stem).name == path.stem


def test_a_folder_named_first_wins(tmp_path: Path) -> None:
    (tmp_path / "local.yaml").write_text("run_root: /elsewhere\nbackend: inline\n")
    config = load_cluster("local", search=(tmp_path, SHIPPED))
    assert (config.backend, config.run_root, config.made_root) == ("inline", Path("/elsewhere"), Path("/elsewhere/made"))


BAD = {
    "unknown key": ("run_rot: runs\n", "bad.yaml:1:1: run_rot: unknown key; did you mean 'run_root'?\n  run_rot: runs\n  ^"),
    "no run root": (
        "backend: ray\n",
        "bad.yaml:1:1: the key 'run_root' is missing: where runs live; the truth is in here\n  backend: ray\n  ^",
    ),
    "unknown backend": (
        "backend: slrum\nrun_root: runs\n",
        "bad.yaml:1:10: backend: expects one of ray, slurm, inline, ray_on_slurm, got 'slrum'; did you mean 'slurm'?"
        "\n  backend: slrum\n           ^",
    ),
    "variable not set": (
        "run_root: $NO_SUCH_VARIABLE/runs\n",
        "bad.yaml:1:11: run_root: the environment variable NO_SUCH_VARIABLE is not set; export it, or write the path out\n"
        "  run_root: $NO_SUCH_VARIABLE/runs\n            ^",
    ),
    "empty variable": (
        "run_root: ${}/runs\n",
        "bad.yaml:1:11: run_root: '${}' names no environment variable; write ${NAME}, or the path out\n  run_root: ${}/runs\n            ^",
    ),
    "path that is a number": (
        "run_root: 7\n",
        "bad.yaml:1:11: run_root: expects a path, got 7; write it in quotes\n  run_root: 7\n            ^",
    ),
    "memory without unit": (
        "run_root: runs\npartitions: {gpu: {cpus: 8, memory: 64}}\n",
        "bad.yaml:2:37: partitions.gpu.memory: expects an amount of memory such as 32G or 500M, got 64; write 64G or 64M\n"
        "  partitions: {gpu: {cpus: 8, memory: 64}}\n                                      ^",
    ),
    "time in words": (
        "run_root: runs\npartitions: {gpu: {cpus: 8, memory: 64G, max_time: two days}}\n",
        "bad.yaml:2:52: partitions.gpu.max_time: expects a time such as 30m, 12h, 1-12:00:00 or a number of minutes, got 'two days'\n"
        "  partitions: {gpu: {cpus: 8, memory: 64G, max_time: two days}}\n" + " " * 53 + "^",
    ),
    "partition without cores": (
        "run_root: runs\npartitions: {gpu: {gpus: 8, memory: 64G}}\n",
        "bad.yaml:2:14: partitions.gpu: the key 'cpus' is missing: CPU cores of a node\n"
        "  partitions: {gpu: {gpus: 8, memory: 64G}}\n               ^",
    ),
    "partitions as a list": (
        "run_root: runs\npartitions: [gpu]\n",
        "bad.yaml:2:13: partitions: expects a mapping, got a list\n  partitions: [gpu]\n              ^",
    ),
    "setup in one line": (
        "run_root: runs\nsetup: module load cuda\n",
        "bad.yaml:2:8: setup: expects a list, got 'module load cuda'; write [module load cuda]\n  setup: module load cuda\n         ^",
    ),
    "negative limit": (
        "run_root: runs\nlimits: {gpu_hours: 0}\n",
        "bad.yaml:2:21: limits.gpu_hours: expects a number above 0, got 0\n  limits: {gpu_hours: 0}\n                      ^",
    ),
    "key twice": (
        "run_root: runs\nrun_root: elsewhere\n",
        "bad.yaml:2:1: run_root: the key stands twice; the first is in line 1\n  run_root: elsewhere\n  ^",
    ),
    "card that is a path": (
        "run_root: runs\ndata: {a/b: /data}\n",
        "bad.yaml:2:8: data.a/b: a key here is the name of a data set card, got 'a/b'\n  data: {a/b: /data}\n         ^",
    ),
    "not YAML": ("run_root: [\n", "bad.yaml:2:1: not YAML: while parsing a flow node: expected the node content, but found '<stream end>'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_config_is_refused_with_its_message(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    text, message = BAD[name]
    Path("bad.yaml").write_text(text)
    with pytest.raises(ClusterError) as caught:
        load_cluster("bad.yaml")
    assert str(caught.value) == message


def test_an_unknown_name_gives_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="no cluster config 'lcoal'; did you mean 'local'"):
        load_cluster("lcoal", search=(SHIPPED,))
    with pytest.raises(ClusterError, match=r"there is no such file"):
        load_cluster(str(tmp_path / "none.yaml"))


def test_a_name_that_would_be_a_shell_word_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a b.yaml").write_text("run_root: runs\n")
    with pytest.raises(ClusterError, match="a cluster config is named by lower-case letters"):
        load_cluster(str(tmp_path / "a b.yaml"))
