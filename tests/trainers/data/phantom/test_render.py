"""Pictures: the same every time, findings where their masks are, both views of one patient."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from trainers.data.cards import load_card
from trainers.data.phantom.canvas import Canvas, Pose, ellipse
from trainers.data.phantom.extras import boxes
from trainers.data.phantom.findings import _where
from trainers.data.phantom.frontal import frontal_anatomy
from trainers.data.phantom.lateral import lateral_anatomy
from trainers.data.phantom.parameters import VIEWS, PhantomParameters, parameters_from
from trainers.data.phantom.patients import SIZED, Study, draw_acquisition, studies
from trainers.data.phantom.render import render
from trainers.data.phantom.sources import FINDINGS

HEALTHY = -2.0


def some(count: int, **changes: object) -> list[Study]:
    return list(studies(PhantomParameters(patients_train=count, max_studies=1, **changes)))  # pyright: ignore[reportArgumentType]


def with_margins(study: Study, **margins: float) -> Study:
    """The same study with only these findings, at these margins."""
    lesions = (dataclasses.replace(lesion, margin=margins.get(name, HEALTHY)) for name, lesion in zip(FINDINGS, study.lesions, strict=True))
    return dataclasses.replace(study, lesions=tuple(lesions))


@pytest.mark.parametrize("view", VIEWS)
def test_a_picture_is_the_same_every_time(view: str) -> None:
    for study in some(5, views=("frontal", "lateral")):
        first, again = (render(study, view, px=64).image for _ in range(2))
        assert first.dtype == np.uint8
        assert first.shape == (64, 64)
        np.testing.assert_array_equal(first, again)
        np.testing.assert_array_equal(first, render(study, view, px=64, masks=True).image)
        assert first.std() > 20


def test_pictures_differ_between_patients_studies_and_views() -> None:
    pictures = [render(study, view, px=32).image for study in list(studies(PhantomParameters(patients_train=5))) for view in VIEWS]
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


@pytest.mark.parametrize("view", VIEWS)
def test_without_strength_nothing_is_to_be_seen(view: str) -> None:
    for study in some(20):
        np.testing.assert_array_equal(render(study, view, px=48, strength=0.0).image, render(with_margins(study), view, px=48).image)


@pytest.mark.parametrize("finding", FINDINGS)
def test_more_strength_and_more_severity_show_more(finding: str) -> None:
    def seen(strength: float, margin: float) -> float:
        changes = [
            render(with_margins(study, **{finding: margin}), "frontal", px=64, strength=strength).image.astype(float)
            - render(with_margins(study), "frontal", px=64).image
            for study in some(12)
        ]
        return float(np.abs(changes).mean())

    assert 0 < seen(0.5, 1.0) < seen(1.0, 1.0)
    assert seen(1.0, 0.0) < seen(1.0, 1.2)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("finding", ["effusion", "consolidation", "nodule"])
def test_a_finding_changes_the_picture_inside_its_mask(finding: str, view: str) -> None:
    ratios = []
    for study in some(12):
        sick = render(with_margins(study, **{finding: 1.5}), view, px=96, masks=True)
        change = np.abs(sick.image.astype(float) - render(with_margins(study), view, px=96).image)
        mask = sick.masks[finding]
        if mask.any():
            ratios.append(change[mask].mean() / max(change[~mask].mean(), 1e-6))
    assert len(ratios) > 8
    assert np.median(ratios) > 3


def test_masks_are_of_what_is_there() -> None:
    for study in some(60):
        masks = render(study, "frontal", px=96, masks=True).masks
        assert {"lung_right", "lung_left", "heart"} <= set(masks)
        assert not (masks["lung_right"] & masks["lung_left"]).any()
        lungs = masks["lung_right"] | masks["lung_left"]
        assert 0.12 < lungs.mean() < 0.65
        assert np.nonzero(masks["lung_right"])[1].mean() < np.nonzero(masks["lung_left"])[1].mean()
        for name, present in zip(FINDINGS, study.truth, strict=True):
            assert (name in masks) == present
            if present and name not in ("cardiomegaly", "nodule"):
                assert not (masks[name] & ~lungs).any()
    assert render(some(1)[0], "frontal", px=32).masks == {}


def test_cardiomegaly_widens_the_heart() -> None:
    wider = []
    for study in some(20):
        widths = [
            np.ptp(np.nonzero(render(with_margins(study, cardiomegaly=margin), "frontal", px=96, masks=True).masks["heart"])[1])
            for margin in (HEALTHY, 1.0)
        ]
        wider.append(widths[1] / widths[0])
    assert min(wider) > 1.05
    assert np.mean(wider) > 1.2


def test_lesions_are_small() -> None:
    """Boxes of nodules and consolidations are about 2 to 6 % of the picture, so that a local branch has something to find."""
    areas: dict[str, list[float]] = {"nodule": [], "consolidation": []}
    for study in some(300):
        masks = render(study, "frontal", px=128, masks=True).masks
        for name, found in areas.items():
            found += [w * h / 128**2 for _, _, w, h in boxes(masks.get(name, np.zeros((4, 4), np.bool_)))]
    for found in areas.values():
        low, middle, high = np.quantile(found, [0.1, 0.5, 0.9])
        assert low > 0.012
        assert 0.02 < middle < 0.045
        assert high < 0.06


@pytest.mark.parametrize(("px", "view"), [(96, "frontal"), (48, "lateral")])
def test_lesions_fill_what_is_asked_for(px: int, view: str) -> None:
    found: dict[str, list[float]] = {name: [] for name in SIZED}
    for asked, plain in zip(some(60, lesion_areas=(0.02, 0.03)), some(60), strict=True):
        np.testing.assert_array_equal(asked.labels, plain.labels)
        masks = render(asked, view, px=px, masks=True).masks
        for name, areas in found.items():
            areas += [float(masks[name].mean())] if name in masks else []
        # Nothing else is drawn otherwise.
        before = render(plain, view, px=px, masks=True).masks
        assert all(np.array_equal(mask, before[name]) for name, mask in masks.items() if name not in SIZED)
    for areas in found.values():
        assert len(areas) > 5 and min(areas) > 0.0195 and max(areas) < 0.0307
        assert max(areas) - min(areas) > 0.004


def test_lesions_of_the_cards_for_them_are_2_to_6_hundredths() -> None:
    card, null = (load_card(name).made["parameters"] for name in ("made_lesions", "made_lesions_null"))
    assert {**card, "strength": 0.0} == null
    parameters = dataclasses.replace(parameters_from(card), patients_train=0, patients_valid=80, first_patient=501001)
    shares: list[tuple[float, float]] = []
    for study in studies(parameters):
        masks = render(study, "frontal", px=128, masks=True).masks
        for mask in (masks[name] for name in SIZED if name in masks):
            ((_, _, w, h),) = boxes(mask)
            shares.append((float(mask.mean()), w * h / 128**2))
    assert len(shares) > 20
    assert np.min(shares) > 0.02 and np.max(shares) < 0.06


def test_findings_have_no_fixed_place() -> None:
    """Each lung pixel is under few of the lesions: no detector of one place reads the finding."""
    for name, most in (("nodule", 0.30), ("consolidation", 0.40), ("pneumothorax", 0.75), ("effusion", 0.75)):
        total, count = np.zeros((64, 64)), 0
        for study in some(250):
            mask = render(study, "frontal", px=64, masks=True).masks.get(name)
            if mask is not None and mask.any():
                total, count = total + mask, count + 1
        assert count > 30
        assert total.max() / count < most


@pytest.mark.parametrize("side", ["right", "left"])
def test_both_views_share_the_level_of_a_point(side: str) -> None:
    for study in some(20):
        q = draw_acquisition(study, "frontal")
        front, lateral = frontal_anatomy(study.anatomy, q, 1.0), lateral_anatomy(study.anatomy, q, 1.0)
        for down in (0.2, 0.4, 0.6):
            (x, y), (z, level) = (_where(chest, side, 0.5, down, 0.5) for chest in (front, lateral))
            assert level == pytest.approx(y)
            assert (x > 0) == (side == "left")
            assert -0.7 < z < 0.7


def test_pictures_of_all_sizes_show_the_same() -> None:
    for study in some(6):
        large, small = (render(study, "frontal", px=px, masks=True).masks["lung_left"].mean() for px in (256, 48))
        assert small == pytest.approx(large, rel=0.10)


@pytest.mark.parametrize("px", [32, 97, 200])
def test_a_filled_shape_has_its_area(px: int) -> None:
    canvas = Canvas(px, Pose(angle=0.3, scale=0.9, x=0.05, y=-0.1))
    area = float(canvas.fill(ellipse(0.1, 0.1, 0.4, 0.3)).mean()) * 4
    assert area == pytest.approx(np.pi * 0.4 * 0.3 * 0.9**2, rel=3 / px)
    x, y = canvas.grid()
    inside = ((x - 0.1) / 0.4) ** 2 + ((y - 0.1) / 0.3) ** 2 < 1
    assert float(inside.mean()) * 4 == pytest.approx(np.pi * 0.4 * 0.3 * 0.9**2, rel=3 / px)


def test_boxes_are_of_connected_parts() -> None:
    mask = np.zeros((10, 12), np.bool_)
    mask[1:4, 2:4] = True
    mask[6:9, 7:12] = True
    mask[0, 11] = True
    assert boxes(mask) == [(2, 1, 2, 3), (7, 6, 5, 3)]
