"""Where a start comes from is found without torch, or said in one sentence with what to do."""

import subprocess
import sys
from pathlib import Path

import pytest

from trainers.errors import WeightsError
from trainers.weights_sources import named_part, resolve_init


def _cache(hub: Path, *names: str) -> list[Path]:
    files = []
    for name in names:
        folder = hub / f"models--timm--{name}"
        file = folder / "snapshots" / "abc" / "model.safetensors"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"")
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("abc", encoding="utf-8")
        files.append(file)
    return files


def test_a_random_start_needs_no_file() -> None:
    assert resolve_init("resnet18", "random", {}) is None


def test_a_jobs_file_comes_before_what_its_config_says(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(b"")
    assert resolve_init("resnet18", "random", {"init": file}) == file


def test_a_cluster_names_files_by_architecture_or_by_init(tmp_path: Path) -> None:
    a, b = tmp_path / "a.pth", tmp_path / "b.pth"
    for file in (a, b):
        file.write_bytes(b"")
    files = {"resnet18": a, "imagenet": b, "ark": b}
    assert resolve_init("resnet18", "imagenet", files) == a
    assert resolve_init("resnet50", "imagenet", files) == b
    # Weights for an architecture are its ImageNet weights: another init does not take them.
    assert resolve_init("resnet18", "ark", files) == b


def test_a_path_is_a_path(tmp_path: Path) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(b"")
    assert resolve_init("resnet18", str(file), {}) == file
    with pytest.raises(WeightsError, match=r"there is no file .*gone.pth; correct the path"):
        resolve_init("resnet18", str(tmp_path / "gone.pth"), {})


def test_a_start_may_ask_for_one_network_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "w#1.pth"
    file.write_bytes(b"")
    assert named_part("ark#student") == ("ark", "student")
    assert named_part(str(file)) == (str(file), "") and named_part(f"{file}#key") == (str(file), "key")
    assert resolve_init("swin", "ark#student", {"ark": file}) == file == resolve_init("swin", f"{file}#teacher", {})
    with pytest.raises(WeightsError, match=r"init 'ark#pupil' .* there is no file ark#pupil"):
        resolve_init("swin", "ark#pupil", {"ark": file})


def test_a_file_that_the_cluster_names_and_that_is_gone_is_said_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"the cluster config's weights.resnet18: there is no file"):
        resolve_init("resnet18", "imagenet", {"resnet18": tmp_path / "gone.pth"})


def test_the_cache_of_timm_is_used_when_it_leaves_no_doubt(tmp_path: Path) -> None:
    one, two, other = _cache(tmp_path, "resnet18.a1_in1k", "resnet18.tv_in1k", "resnet50.a1_in1k")
    assert resolve_init("resnet50", "imagenet", {}, hub=tmp_path) == other
    assert resolve_init("resnet18.tv_in1k", "imagenet", {}, hub=tmp_path) == two
    assert resolve_init("resnet18.a1_in1k", "imagenet", {}, hub=tmp_path) == one
    with pytest.raises(WeightsError, match=r"write one of them as arch: resnet18\.a1_in1k, resnet18\.tv_in1k"):
        resolve_init("resnet18", "imagenet", {}, hub=tmp_path)


def test_offline_and_without_a_file_it_says_what_to_fetch_and_which_key_to_set(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as found:
        resolve_init("resnet18", "imagenet", {}, hub=tmp_path)
    assert "model.safetensors of timm/resnet18.<tag>" in str(found.value)
    assert "`weights: {resnet18: <file>}` in the cluster config" in str(found.value)
    with pytest.raises(WeightsError, match="write `init: random`"):
        resolve_init("slim", "imagenet", {}, hub=tmp_path)


@pytest.mark.needs("lite0")
def test_the_wheel_is_found() -> None:
    path = resolve_init("tf_efficientnet_lite0", "imagenet", {})
    assert path is not None
    assert path.name == "efficientnet-lite0-57934424.pth"


def test_planning_reaches_no_torch() -> None:
    code = (
        "import sys, contextlib; from trainers.weights_sources import resolve_init; from trainers.errors import WeightsError\n"
        "from trainers.moco_cxr import config; from trainers.classification import config; from trainers.thumbnail import config\n"
        "with contextlib.suppress(WeightsError): resolve_init('tf_efficientnet_lite0', 'imagenet')\n"
        "with contextlib.suppress(WeightsError): resolve_init('resnet18', 'imagenet')\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'timm', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
