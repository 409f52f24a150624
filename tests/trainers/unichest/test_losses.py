"""UniChest's losses against the figures of its formulas, naive loops, and what must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from trainers.unichest.fourier import mix_amplitude
from trainers.unichest.losses import asymmetric, contrastive, source_contrast
from trainers.unichest.rates import released

ENTRIES = [(0.5, 1, 0.693147), (0.5, 0, 0.0049643), (0.3, 0, 7.0235e-5), (0.9, 0, 0.715498), (0.05, 0, 0.0), (0.02, 1, 3.912023)]


@pytest.mark.parametrize(("p", "y", "expected"), ENTRIES)
def test_the_asymmetric_loss_of_an_entry(p: float, y: int, expected: float) -> None:
    assert asymmetric(torch.tensor([[p]]), torch.tensor([[float(y)]])).item() == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_the_weight_of_the_asymmetric_loss_has_no_gradient_and_missing_labels_have_none_at_all() -> None:
    p = torch.tensor([[0.3, 0.7, 0.9]], requires_grad=True)
    targets = torch.tensor([[0.0, 1.0, float("nan")]])
    each = asymmetric(p, targets)
    assert each[0, 2].item() == 0
    each.sum().backward()
    assert p.grad is not None
    q = 1 - 0.3 + 0.05
    assert p.grad[0].tolist() == [pytest.approx((1 - q) ** 6 / q, rel=1e-4), pytest.approx(-1 / 0.7), 0.0]


def test_without_focusing_and_clip_it_is_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(1)
    p = torch.rand((7, 5), generator=generator).clamp(0.01, 0.99)
    y = (torch.rand((7, 5), generator=generator) < 0.4).float()
    found = asymmetric(p, y, gamma_negative=0, gamma_positive=0, clip=0)
    assert torch.allclose(found, functional.binary_cross_entropy(p, y, reduction="none"), atol=1e-6)


def test_the_contrastive_loss_of_known_features() -> None:
    images, texts = torch.tensor([[1.0, 2.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.5, 1.0]])
    assert contrastive(images, texts).item() == pytest.approx(2.0374498, abs=1e-5)
    for size, expected in ((4, 0.1906204), (2, 0.0676586)):
        assert contrastive(torch.eye(size), torch.eye(size)).item() == pytest.approx(expected, abs=1e-6)


def test_of_unit_length_the_contrastive_loss_is_that_of_directions() -> None:
    generator = torch.Generator().manual_seed(2)
    images, texts = torch.randn((6, 4), generator=generator), torch.randn((6, 4), generator=generator)
    scale = torch.tensor(5.0)
    long = contrastive(images * 7, texts * 0.1, scale, normalised=True)
    assert long.item() == pytest.approx(contrastive(images, texts, scale, normalised=True).item(), abs=1e-6)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert contrastive(images[order], texts[order]).item() == pytest.approx(contrastive(images, texts).item(), abs=1e-5)


def by_loops(h: torch.Tensor, sources: list[int], temperature: float, form: str, similarity: str) -> float:
    """Return the source-contrastive loss by two loops over numbers."""
    rows = h.double().tolist()
    if similarity == "cosine":
        rows = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows]
    e = [[math.exp(sum(a * b for a, b in zip(one, other, strict=True)) / temperature) for other in rows] for one in rows]
    terms = []
    for i in range(len(rows)):
        others = [m for m in range(len(rows)) if m != i]
        total = sum(e[i][m] for m in others)
        partners = [j for j in others if sources[j] == sources[i]]
        if form == "pairs":
            terms += [-math.log(e[i][j] / total) for j in partners]
        elif partners:
            terms.append(-math.log(sum(e[i][j] for j in partners) / total))
    return sum(terms) / len(terms) if terms else 0.0


@pytest.mark.parametrize("form", ["pairs", "samples"])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize("sources", [[0, 0, 1, 1, 0, 2], [0, 0, 1, 1, 2, 2], [0, 0, 0, 0, 0, 0]])
def test_sources_are_contrasted_as_by_two_loops(form: str, similarity: str, sources: list[int]) -> None:
    h = torch.randn((6, 3), generator=torch.Generator().manual_seed(3), requires_grad=True)
    found = source_contrast(h, torch.tensor(sources), temperature=0.5, form=form, similarity=similarity)  # type: ignore[arg-type]
    assert found.item() == pytest.approx(by_loops(h, sources, 0.5, form, similarity), abs=1e-5)
    found.backward()
    assert h.grad is not None and bool(torch.isfinite(h.grad).all())


@pytest.mark.parametrize("form", ["pairs", "samples"])
def test_without_two_of_one_source_there_is_nothing_to_contrast(form: str) -> None:
    h = torch.randn((4, 3), requires_grad=True)
    found = source_contrast(h, torch.arange(4), form=form)  # type: ignore[arg-type]
    found.backward()
    assert found.item() == 0 and h.grad is not None and not h.grad.any()


def test_both_forms_agree_where_each_image_has_one_partner() -> None:
    h, sources = torch.randn((8, 3), generator=torch.Generator().manual_seed(4)), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    assert source_contrast(h, sources, form="pairs").item() == pytest.approx(source_contrast(h, sources, form="samples").item(), abs=1e-6)


def test_amplitudes_are_mixed_and_phases_kept() -> None:
    random = np.random.default_rng(5)
    one, other = random.normal(size=(2, 1, 8, 6)), random.normal(size=(2, 1, 8, 6))
    share = np.array([0.25, 1.0])
    found = mix_amplitude(torch.from_numpy(one), torch.from_numpy(other), torch.from_numpy(share)).numpy()
    for index in range(2):
        own, theirs = np.fft.fft2(one[index, 0]), np.fft.fft2(other[index, 0])
        mixed = share[index] * np.abs(own) + (1 - share[index]) * np.abs(theirs)
        expected = np.fft.ifft2(mixed * np.exp(1j * np.angle(own))).real
        assert np.allclose(found[index, 0], expected, atol=1e-5)
    assert np.allclose(found[1], one[1], atol=1e-5)


def test_low_frequencies_alone_leave_the_others() -> None:
    random = np.random.default_rng(6)
    one, other = (torch.from_numpy(random.normal(size=(1, 1, 16, 16))) for _ in range(2))
    found = mix_amplitude(one, other, torch.tensor([0.0]), radius=0.2)
    own, theirs, mixed = (np.abs(np.fft.fft2(x[0, 0].numpy())) for x in (one, other, found))
    low = np.hypot(np.fft.fftfreq(16)[:, None], np.fft.fftfreq(16)[None]) <= 0.2
    assert np.allclose(mixed[~low], own[~low], atol=1e-4) and np.allclose(mixed[low], theirs[low], atol=1e-4)
    assert torch.allclose(
        mix_amplitude(one, other, torch.tensor([0.0]), radius=1.0), mix_amplitude(one, other, torch.tensor([0.0])), atol=1e-5
    )


@pytest.mark.parametrize(
    ("epoch", "iteration", "rate"),
    [(0, 0, 1e-6), (0, 100, 3.45e-6), (0, 1000, 2.55e-5), (0, 1900, 4.755e-5), (0, 2000, 5e-5), (0, 2900, 5e-5), (1, 0, 4.99879e-5),
     (29, 7, 4.05162e-5), (50, 0, 2.55e-5), (99, 2999, 1.01209e-6)],
)  # fmt: skip
def test_the_released_rate(epoch: int, iteration: int, rate: float) -> None:
    assert 5e-5 * released(epoch * 3000 + iteration, 3000, 100, lr=5e-5, min_lr=1e-6) == pytest.approx(rate, rel=1e-5)
