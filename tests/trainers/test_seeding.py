"""A process is put into a known state, whatever ran in it before."""

from __future__ import annotations

import io
import platform
import random

import cv2
import numpy as np
import pytest
import torch

from trainers.seeding import keep_freed_memory, prepare, random_state, set_random_state

CPU = torch.device("cpu")


def draws() -> list[float]:
    return [random.random(), float(np.random.random()), float(np.random.normal()), float(torch.rand(1))]


def test_the_same_seed_gives_the_same_draws_after_anything() -> None:
    prepare(11, 1, CPU)
    first = draws()
    random.random()
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    torch.use_deterministic_algorithms(False)
    torch.set_float32_matmul_precision("medium")
    cv2.setNumThreads(2)
    prepare(11, 1, CPU)
    assert draws() == first
    assert torch.ones(1).dtype == torch.float32
    assert torch.is_grad_enabled()
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_float32_matmul_precision() == "highest"
    assert cv2.getNumThreads() == 1
    prepare(12, 1, CPU)
    assert draws() != first


def test_threads_are_those_asked_for_and_recorded() -> None:
    assert prepare(0, 2, CPU)["threads"] == 2
    assert torch.get_num_threads() == 2
    facts = prepare(0, 1, CPU)
    assert (facts["threads"], torch.get_num_threads(), facts["torch"]) == (1, 1, torch.__version__)


def test_random_state_goes_through_a_file_that_holds_no_code() -> None:
    prepare(5, 1, CPU)
    draws()
    file = io.BytesIO()
    torch.save(random_state(), file)
    expected = draws()
    prepare(6, 1, CPU)
    file.seek(0)
    set_random_state(torch.load(file, weights_only=True))
    assert draws() == expected


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_the_allocator_is_set_on_glibc() -> None:
    assert keep_freed_memory()
    assert prepare(0, 1, CPU)["allocator"] is True
