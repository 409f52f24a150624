"""PadChest's layout: a table of 36 columns, and 16-bit PNGs in numbered folders. Some test patients have images of both kinds of labels.

PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv
0/<study>_<image>.png, 1/...
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from trainers.data.phantom.files import save_image, save_table
from trainers.data.phantom.parameters import PhantomParameters
from trainers.data.phantom.patients import Study, draw_acquisition, studies
from trainers.data.phantom.render import render
from trainers.data.phantom.sources import FINDINGS

_TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
#: The columns of the release, in its order; the first has no name.
COLUMNS = (
    "",
    "ImageID",
    "ImageDir",
    "StudyDate_DICOM",
    "StudyID",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "ViewPosition_DICOM",
    "Projection",
    "MethodProjection",
    "Pediatric",
    "Modality_DICOM",
    "Manufacturer_DICOM",
    "PhotometricInterpretation_DICOM",
    "PixelRepresentation_DICOM",
    "PixelAspectRatio_DICOM",
    "SpatialResolution_DICOM",
    "BitsStored_DICOM",
    "WindowCenter_DICOM",
    "WindowWidth_DICOM",
    "Rows_DICOM",
    "Columns_DICOM",
    "XRayTubeCurrent_DICOM",
    "Exposure_DICOM",
    "ExposureInuAs_DICOM",
    "ExposureTime",
    "RelativeXRayExposure_DICOM",
    "ReportID",
    "Report",
    "MethodLabel",
    "Labels",
    "Localizations",
    "LabelsLocalizationsBySentence",
    "labelCUIS",
    "LocalizationsCUIS",
)
#: What each finding is called there.
_NAMES = {
    "effusion": "pleural effusion",
    "cardiomegaly": "cardiomegaly",
    "consolidation": "consolidation",
    "edema": "pulmonary edema",
    "pneumothorax": "pneumothorax",
    "nodule": "nodule",
}
_FOLDERS, _YEAR = 3, 2014


def write(folder: Path, parameters: PhantomParameters) -> tuple[int, tuple[str, ...]]:
    """Write a whole set below a folder; return how many images it has, and its label files."""
    rows: list[list[object]] = []
    for study in studies(parameters):
        for view in study.views:
            row = _row(study, view, len(rows), parameters)
            picture = render(study, view, px=parameters.px, strength=parameters.strength)
            # 257 takes 255 to 65535.
            save_image(folder / str(row["ImageDir"]) / str(row["ImageID"]), picture.image.astype(np.uint16) * 257)
            rows.append([row.get(column, "None") for column in COLUMNS])
    save_table(folder / _TABLE, COLUMNS, rows)
    return len(rows), (_TABLE,)


def _row(study: Study, view: str, number: int, parameters: PhantomParameters) -> dict[str, object]:
    """Return what the table says of an image, by column."""
    named = [_NAMES[name] for name, value in zip(FINDINGS, study.labels, strict=True) if value == 1]
    if study.no_finding:
        named = ["normal"]
    # A second study of every other test patient is labelled by the network, as thousands of patients in the release have both.
    by_physician = study.split == "valid" and (study.number == 1 or study.patient % 2 == 0)
    frontal = "AP_horizontal" if draw_acquisition(study, view).portable else "PA"
    side = parameters.px
    return {
        "": number,
        "ImageID": f"{study.seed}{study.patient:09d}{study.number}_{view[0]}{number:05d}.png",
        "ImageDir": study.patient % _FOLDERS,
        "StudyDate_DICOM": f"{_YEAR}0{study.number}15",
        "StudyID": f"{study.patient:09d}{study.number}",
        "PatientID": f"{study.patient:036d}",
        "PatientBirth": f"{_YEAR - study.anatomy.age}.0",
        "PatientSex_DICOM": "F" if study.anatomy.female else "M",
        "Projection": frontal if view == "frontal" else "L",
        "Pediatric": "No",
        "Modality_DICOM": "CR",
        "PhotometricInterpretation_DICOM": "MONOCHROME2",
        "BitsStored_DICOM": 12,
        "Rows_DICOM": side,
        "Columns_DICOM": side,
        "ReportID": number,
        "MethodLabel": "Physician" if by_physician else "RNN_model",
        # The release has a blank before some names.
        "Labels": str([f" {name}" if place else name for place, name in enumerate(named)]) if named else "nan",
    }
