"""A first cluster config: what is asked, what is offered, what is refused, and that it reads as what was answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator import first_config, scheduler
from orchestrator.clusters import load_cluster
from orchestrator.errors import ClusterError
from orchestrator.first_config import Answers, config_path, make, write
from orchestrator.model import ClusterConfig, Partition
from orchestrator.scheduler import Site

SITE = Site(
    partitions=(
        Partition(name="gpu", gpus=8, cpus=128, memory_mb=1_031_000, max_time_minutes=2880),
        Partition(name="no", gpus=0, cpus=96, memory_mb=1_000),
    ),
    accounts=("lab-7", "other"),
    gpu_types=("a100", "h100"),
    array_size=4000,
)


@pytest.fixture
def on_a_login_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "sites", lambda: {"slurm": SITE})


@pytest.fixture
def on_a_laptop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "sites", dict)


def take_the_default(question: str, default: str) -> str:
    del question
    return default


def read(folder: Path, text: str) -> ClusterConfig:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_cluster(path)


@pytest.mark.usefixtures("on_a_login_node")
def test_what_the_site_says_is_what_is_offered(tmp_path: Path) -> None:
    text = make("mine", Answers(), take_the_default)
    config = read(tmp_path, text)
    assert (config.backend, config.account, config.slurm.array_size, config.slurm.accounting) == ("slurm", "lab-7", 4000, True)
    gpu, none = config.partitions
    assert (gpu.gpus, gpu.cpus, gpu.memory_mb, gpu.max_time_minutes) == (8, 128, 1006 * 1024, 2880)
    assert (none.name, none.memory_mb, none.max_time_minutes) == ("no", 1000, None)
    assert gpu.memory_mb <= SITE.partitions[0].memory_mb, "never more than a node has"
    assert "# gres: gpu:a100" in text


@pytest.mark.usefixtures("on_a_login_node")
def test_only_what_was_not_given_is_asked(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(question: str, default: str) -> str:
        asked.append(question)
        return default

    given = Answers(backend="slurm", run_root="/scratch/me/my runs", data_root="$HOME/data", partitions=("gpu",), account="")
    config = read(tmp_path, make("mine", given, ask))
    assert asked == []
    assert config.run_root == Path("/scratch/me/my runs")
    assert config.data_root == Path("~/data").expanduser()
    assert ([one.name for one in config.partitions], config.account) == (["gpu"], None)
    make("mine", Answers(), ask)
    assert [question.split(" ")[0] for question in asked] == ["what", "where", "where", "partitions", "account"]


@pytest.mark.usefixtures("on_a_laptop")
def test_without_a_scheduler_it_is_this_machine(tmp_path: Path) -> None:
    config = read(tmp_path, make("mine", Answers(), take_the_default))
    assert (config.backend, config.partitions, config.run_root.name) == ("ray", (), "runs")


@pytest.mark.usefixtures("on_a_login_node")
@pytest.mark.parametrize("account", ["yes", "1234", "a b: c", "#7", 'x"y', "true"])
def test_an_answer_is_read_back_as_it_was_given(account: str, tmp_path: Path) -> None:
    assert read(tmp_path, make("mine", Answers(account=account), take_the_default)).account == account


@pytest.mark.usefixtures("on_a_login_node")
def test_answers_that_make_no_config_are_refused_before_anything_is_written() -> None:
    with pytest.raises(ClusterError, match="no partition 'huge' here; --partition takes gpu, no"):
        make("mine", Answers(partitions=("huge",)), take_the_default)
    with pytest.raises(ClusterError, match="these answers make no cluster config: backend: "):
        make("mine", Answers(backend="pbs"), take_the_default)
    with pytest.raises(ClusterError, match="NO_SUCH_PLACE is not set"):
        make("mine", Answers(run_root="$NO_SUCH_PLACE/runs"), take_the_default)


def test_a_file_that_is_there_is_left_alone_without_yes(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    write(path, "backend: ray\n", overwrite=False)
    with pytest.raises(ClusterError, match="is there already"):
        write(path, "backend: inline\n", overwrite=False)
    assert path.read_text(encoding="utf-8") == "backend: ray\n"
    write(path, "backend: inline\n", overwrite=True)
    assert path.read_text(encoding="utf-8") == "backend: inline\n"


def test_a_name_that_is_no_file_name_is_refused() -> None:
    assert config_path("site").as_posix() == "cluster_configs/site.yaml"
    with pytest.raises(ClusterError, match="cannot name a cluster config"):
        config_path("../site")


def test_a_machine_without_a_scheduler_s_commands_has_no_site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert scheduler.sites() == {}
    assert first_config.LOCAL == "ray"
