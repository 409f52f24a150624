"""Real files of the packages `pydicom-data` and `pydicom`, and small ones written here; pydicom's LUT functions are the second opinion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pixel_array
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit

from trainers.data.decode import read_gray
from trainers.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def real(name: str) -> Path:
    """Return a file of the two packages, neither of which needs a network."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str), f"{name} is not in pydicom or pydicom-data"
    return Path(path)


def written(
    folder: Path, pixels: np.ndarray | bytes, *, syntax: str = ExplicitVRLittleEndian, unknown: str | None = None, **tags: Any
) -> Path:
    """Write a small DICOM file with these pixels; a tag that is None is left out."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = "1.2.3"
    array = pixels if isinstance(pixels, np.ndarray) else np.zeros((1, 1), np.uint8)
    bits = 8 * array.dtype.itemsize
    usual = {
        "Rows": array.shape[0],
        "Columns": array.shape[1],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": bits,
        "BitsStored": bits,
        "PixelRepresentation": int(array.dtype.kind == "i"),
        "PixelData": pixels if isinstance(pixels, bytes) else array.tobytes() + b"\0" * (array.nbytes % 2),
    }
    for name, value in {**usual, "HighBit": (tags.get("BitsStored") or bits) - 1, **tags}.items():
        if value is not None:
            setattr(image, name, value)
    image["PixelData"].VR = "OB" if bits == 8 else "OW"
    file = folder / "image.dcm"
    image.save_as(file, enforce_file_format=True)
    if unknown is not None:
        # pydicom writes none that it does not know.
        file.write_bytes(file.read_bytes().replace(ExplicitVRLittleEndian.encode() + b"\0", unknown.encode().ljust(20, b"\0")))
    return file


def refused(file: Path) -> str:
    with pytest.raises(DataError) as error:
        read_gray(file)
    text = str(error.value)
    assert text.startswith(f"image {file} ")
    assert "\n" not in text
    return text.removeprefix(f"image {file} ")


def by_pydicom(file: Path) -> np.ndarray:
    """Return what pydicom's functions make of a gray file, from 0 to 1, scaled by the range that they write into."""
    image = pydicom.dcmread(file, force=True)
    stored = pixel_array(image)
    half = 2 ** (image.BitsStored - 1)
    low, high = (-half, half - 1) if image.PixelRepresentation else (0, 2 * half - 1)
    values = apply_modality_lut(stored, image)
    if "ModalityLUTSequence" in image:
        low, high = 0, 2 ** int(image.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    elif "RescaleSlope" in image:
        low, high = sorted(end * float(image.RescaleSlope) + float(image.RescaleIntercept) for end in (low, high))
    values = apply_voi_lut(values, image)
    if "VOILUTSequence" in image:
        low, high = 0, 2 ** int(image.VOILUTSequence[0].LUTDescriptor[2]) - 1
    unit = (values.astype(np.float64) - low) / (high - low)
    return 1 - unit if image.PhotometricInterpretation == "MONOCHROME1" else unit


# --- real files -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["RG1_UNCR.dcm", "RG1_UNCI.dcm", "RG3_UNCR.dcm", "vlut_04.dcm", "mlut_18.dcm", "CT_small.dcm", "MR_small.dcm", "693_UNCR.dcm"],
)
def test_gray_values_are_those_of_pydicom(name: str) -> None:
    expected = np.clip(by_pydicom(real(name)), 0, 1) * 255
    # Half a level of rounding, and what pydicom's integers lose on the way.
    assert np.abs(read_gray(real(name)) - expected).max() <= 0.51


def test_a_real_chest_radiograph_has_black_air_and_white_bone() -> None:
    image = read_gray(real("RG1_UNCR.dcm"))
    header = pydicom.dcmread(real("RG1_UNCR.dcm"), stop_before_pixels=True)
    assert (header.Modality, header.PhotometricInterpretation, header.BitsStored) == ("CR", "MONOCHROME1", 15)
    assert image.shape == (1955, 1841)
    # Lungs are darker than the spine between them, which is so only after the inversion.
    middle = image[700:1000, 850:1000].mean()
    assert image[700:1000, 450:600].mean() < middle - 20


def test_lossless_jpeg_2000_equals_uncompressed() -> None:
    for name in ("RG1", "RG3", "693", "MR2"):
        np.testing.assert_array_equal(read_gray(real(f"{name}_J2KR.dcm")), read_gray(real(f"{name}_UNCR.dcm")))


def test_lossy_jpeg_2000_is_close_to_uncompressed() -> None:
    for name in ("RG1", "RG3"):
        # UNCI is what the lossy stream decodes to, as its maker did it.
        differences = np.abs(read_gray(real(f"{name}_J2KI.dcm")).astype(int) - read_gray(real(f"{name}_UNCI.dcm")))
        assert differences.max() <= 1


@pytest.mark.parametrize(
    ("name", "same_as"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
        ("MR_small_expb.dcm", "MR_small_bigendian.dcm"),
        ("OBXXXX1A_rle.dcm", "OBXXXX1A.dcm"),
        ("SC_rgb_rle.dcm", "SC_rgb.dcm"),
        ("SC_rgb_rle_16bit.dcm", "SC_rgb_16bit.dcm"),
        ("color-pl.dcm", "color-px.dcm"),
    ],
)
def test_another_coding_is_the_same_image(name: str, same_as: str) -> None:
    image = read_gray(real(name))
    np.testing.assert_array_equal(image, read_gray(real(same_as)))
    assert image.std() > 5


@pytest.mark.parametrize(
    "name", ["JPEG-LL.dcm", "JPGLosslessP14SV1_1s_1f_8b.dcm", "JPEGLSNearLossless_16.dcm", "JPEGLSNearLossless_08.dcm"]
)
def test_lossless_jpeg_and_jpeg_ls_are_decoded(name: str) -> None:
    image = pydicom.dcmread(real(name))
    expected = np.clip(by_pydicom(real(name)), 0, 1) * 255
    assert read_gray(real(name)).shape == (image.Rows, image.Columns)
    assert np.abs(read_gray(real(name)) - expected).max() <= 0.51


def test_colours_and_palettes_become_luma() -> None:
    for name in ("SC_rgb.dcm", "SC_ybr_full_uncompressed.dcm", "examples_palette.dcm"):
        image = pydicom.dcmread(real(name))
        stored = pixel_array(image)
        if image.PhotometricInterpretation == "PALETTE COLOR":
            stored = pydicom.pixels.processing.apply_color_lut(stored, image) / 257
        assert np.abs(read_gray(real(name)) - stored @ [0.299, 0.587, 0.114]).max() <= 1.5


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rtplan.dcm", "is a DICOM file without pixel data: copy it again from the release"),
        ("DICOMDIR", "is a DICOM file without pixel data"),
        ("MR_truncated.dcm", "is truncated (8,130 bytes of pixels, and 64 x 64 make 8,192)"),
        ("MR_small_padded.dcm", "does not fit its header (8,320 bytes of pixels, and 64 x 64 make 8,192)"),
        ("SC_rgb_2frame.dcm", "holds 2 frames, and a radiograph is one"),
        ("SC_rgb_rle_32bit.dcm", "has pixels of 32 of 32 bits"),
        ("liver_1frame.dcm", "has pixels of 1 of 1 bits"),
        ("JPGExtended.dcm", "cannot be decoded"),
        ("emri_small_jpeg_2k_lossless_too_short.dcm", "is a DICOM file without pixel data"),
        ("badVR.dcm", "cannot be decoded"),
        ("gdcm-US-ALOKA-16_big.dcm", "has a palette in big-endian"),
    ],
)
def test_what_is_no_radiograph_is_refused_by_name(name: str, said: str) -> None:
    assert said in refused(real(name))


# --- windows, tables, bits --------------------------------------------------------------------------------------------------------------

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)
TWELVE: dict[str, Any] = {"BitsStored": 12}


def test_without_a_window_the_stored_range_is_shown_not_that_of_the_image(tmp_path: Path) -> None:
    image = read_gray(written(tmp_path, RAMP // 2, **TWELVE))
    assert image.max() == round(2047 / 4095 * 255)
    assert image.min() == 0


@pytest.mark.parametrize("function", [None, "LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize(("center", "width"), [(2048, 4096), (1000, 500), (1000.5, 1), (3000, 2), (-200, 900)])
def test_windows_are_those_of_pydicom(tmp_path: Path, function: str | None, center: float, width: float) -> None:
    file = written(tmp_path, RAMP, WindowCenter=center, WindowWidth=width, VOILUTFunction=function, **TWELVE)
    assert np.abs(read_gray(file) - by_pydicom(file) * 255).max() <= 0.51


def test_the_first_of_several_windows_is_taken(tmp_path: Path) -> None:
    several = read_gray(written(tmp_path, RAMP, WindowCenter=[1000, 3000], WindowWidth=[500, 50], **TWELVE))
    one = read_gray(written(tmp_path, RAMP, WindowCenter=1000, WindowWidth=500, **TWELVE))
    np.testing.assert_array_equal(several, one)


@pytest.mark.parametrize("slope", [1.0, 0.5, -2.0])
def test_the_window_is_in_the_units_of_the_rescaled_values(tmp_path: Path, slope: float) -> None:
    tags = {"RescaleSlope": slope, "RescaleIntercept": -1024, "WindowCenter": -500, "WindowWidth": 1500}
    file = written(tmp_path, RAMP, **tags, **TWELVE)
    expected = np.clip(((RAMP * slope - 1024) - (-500.5)) / 1499 + 0.5, 0, 1) * 255  # PS3.3 C.11.2.1.2.1
    assert np.abs(read_gray(file) - expected).max() <= 0.51
    assert np.unique(read_gray(file)).size > 30


def table(entries: np.ndarray, first: int, bits: int) -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    return [item]


def test_lookup_tables_are_those_of_pydicom(tmp_path: Path) -> None:
    curve = (np.linspace(0, 1, 2000) ** 2 * 1023).astype(np.uint16)
    for tags in (
        {"VOILUTSequence": table(curve, 500, 10)},
        # The range that pydicom can write a modality LUT in is that of whole integers.
        {"ModalityLUTSequence": table(curve * 64, 500, 16)},
        # A table comes before a window.
        {"VOILUTSequence": table(curve, 500, 10), "WindowCenter": 10, "WindowWidth": 10},
    ):
        file = written(tmp_path, RAMP, **tags, **TWELVE)
        assert np.abs(read_gray(file) - by_pydicom(file) * 255).max() <= 0.51
        assert np.unique(read_gray(file)).size > 200


def test_signed_values(tmp_path: Path) -> None:
    values = (RAMP.astype(np.int32) - 2048).astype(np.int16)
    expected = np.round(RAMP * (255 / 4095))
    np.testing.assert_array_equal(read_gray(written(tmp_path, values, **TWELVE)), expected)
    # Old files do not extend the sign into the unused bits.
    bare = (values.view(np.uint16) & 0x0FFF).view(np.int16)
    np.testing.assert_array_equal(read_gray(written(tmp_path, bare, **TWELVE)), expected)


def test_monochrome1_is_turned_around(tmp_path: Path) -> None:
    plain = read_gray(written(tmp_path, RAMP, **TWELVE)).astype(int)
    turned = read_gray(written(tmp_path, RAMP, PhotometricInterpretation="MONOCHROME1", **TWELVE))
    assert np.abs(plain + turned - 255).max() <= 1


def test_padding_is_black(tmp_path: Path) -> None:
    tags = {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 0, "PixelPaddingRangeLimit": 3}
    image = read_gray(written(tmp_path, RAMP, **tags, **TWELVE))
    assert image[0, :6].tolist() == [0, 0, 0, 0, 255, 255]


def test_values_that_stand_higher_up(tmp_path: Path) -> None:
    plain = read_gray(written(tmp_path, RAMP, **TWELVE))
    np.testing.assert_array_equal(read_gray(written(tmp_path, RAMP << 4, HighBit=15, **TWELVE)), plain)


def test_more_bits_than_are_said_are_refused_unless_they_hold_an_overlay(tmp_path: Path) -> None:
    pixels = RAMP.copy()
    pixels[0, 0] |= 1 << 14
    assert "holds numbers of more than the 12 bits that it says it stores" in refused(written(tmp_path, pixels, **TWELVE))
    file = written(tmp_path, pixels, **TWELVE)
    image = pydicom.dcmread(file)
    image.add_new((0x6000, 0x0102), "US", 14)
    image.save_as(file)
    np.testing.assert_array_equal(read_gray(file), read_gray(written(tmp_path, RAMP, **TWELVE)))


def test_what_old_files_leave_out_is_what_is_usual(tmp_path: Path) -> None:
    pixels = RAMP.view(np.uint8)[:, ::2].copy()
    expected = read_gray(written(tmp_path, pixels))
    np.testing.assert_array_equal(expected, pixels)
    for name in ("PhotometricInterpretation", "SamplesPerPixel", "BitsStored", "HighBit", "PixelRepresentation"):
        np.testing.assert_array_equal(read_gray(written(tmp_path, pixels, **{name: None})), expected)


def test_the_name_of_the_file_says_nothing(tmp_path: Path) -> None:
    file = written(tmp_path, RAMP, **TWELVE)
    for name in ("image.dicom", "image", "image.png"):
        (tmp_path / name).write_bytes(file.read_bytes())
        np.testing.assert_array_equal(read_gray(tmp_path / name), read_gray(file))
    (tmp_path / "bare").write_bytes(file.read_bytes()[132:])
    np.testing.assert_array_equal(read_gray(tmp_path / "bare"), read_gray(file))


# --- what is wrong with a file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"WindowCenter": 100, "WindowWidth": 0}, "has a window of width 0 around 100"),
        ({"WindowCenter": 100, "WindowWidth": 50, "VOILUTFunction": "CUBIC"}, "has the VOI LUT function 'CUBIC'"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "has a rescale slope of 0"),
        ({"PhotometricInterpretation": "MONOCHROME9"}, "has the photometric interpretation 'MONOCHROME9'"),
        ({"SamplesPerPixel": 3}, "has 3 samples a pixel, which does not fit MONOCHROME2"),
        ({"Rows": 63}, "does not fit its header (8,192 bytes of pixels, and 64 x 63 make 8,064)"),
        ({"Rows": 65}, "is truncated (8,192 bytes of pixels, and 64 x 65 make 8,320)"),
        ({"Rows": 0}, "declares 64 x 0 pixels"),
        ({"Rows": 65535, "Columns": 65535}, "declares 65535 x 65535 pixels, more than any radiograph has"),
        ({"Rows": None}, "is a DICOM file without Rows"),
        ({"BitsStored": 17, "HighBit": 16}, "has pixels of 17 of 16 bits"),
        ({"VOILUTSequence": table(np.arange(10), 0, 40)}, "has a VOI LUT with entries of 40 bits"),
        ({"unknown": "1.2.840.10008.1.2.77"}, "has the unknown transfer syntax 1.2.840.10008.1.2.77"),
        ({"syntax": "1.2.840.10008.1.2.4.100"}, "has the transfer syntax 'MPEG2 Main Profile / Main Level'"),
    ],
)
def test_a_header_that_does_not_fit_is_named(tmp_path: Path, tags: dict[str, Any], said: str) -> None:
    pixels: np.ndarray | bytes = RAMP
    if "syntax" in tags and tags["syntax"].endswith("100"):
        pixels, tags = encapsulate([RAMP.tobytes()]), {"Rows": 64, "Columns": 64, **tags}
    assert said in refused(written(tmp_path, pixels, **tags))


def jpeg_of(pixels: np.ndarray) -> bytes:
    import simplejpeg

    return simplejpeg.encode_jpeg(np.ascontiguousarray(pixels[..., None]), colorspace="GRAY", quality=95)


def test_jpeg_in_dicom_is_read_as_a_jpeg_file_is(tmp_path: Path) -> None:
    pixels = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))
    content = jpeg_of(pixels)
    tags: dict[str, Any] = {"Rows": 48, "Columns": 64, "BitsAllocated": 8, "BitsStored": 8, "syntax": JPEGBaseline8Bit}
    (tmp_path / "plain.jpg").write_bytes(content)
    inside = read_gray(written(tmp_path, encapsulate([content]), **tags))
    np.testing.assert_array_equal(inside, read_gray(tmp_path / "plain.jpg"))
    assert "its pixels are 64 x 48, and its header says 64 x 32" in refused(
        written(tmp_path, encapsulate([content]), **{**tags, "Rows": 32})
    )
    assert "have no end marker" in refused(written(tmp_path, encapsulate([content[:-200]]), **tags))
    assert "have no header" in refused(written(tmp_path, encapsulate([b"nothing of the kind"]), **tags))
