"""DICOM series as a scanner writes them, for tests of what reads them."""

from pathlib import Path

import numpy as np
from pydicom import FileDataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
STUDY = generate_uid(entropy_srcs=["study"])


def write_series(
    folder: Path,
    voxels: np.ndarray,
    affine: np.ndarray,
    *,
    description: str = "",
    study: UID = STUDY,
    number: int = 1,
    hounsfield: bool = False,
) -> list[Path]:
    """Write whole numbers (columns, rows, slices), a slice a file, the files in no order of the slices.

    Args:
        affine: from voxels to mm in RAS.
        hounsfield: whether the file stores each value raised by 1024, as scanners do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lps, series = LPS @ affine, generate_uid(entropy_srcs=[str(study), description, str(number)])
    names = np.random.default_rng(number).permutation(voxels.shape[2])
    return [
        _write_slice(
            folder / f"IM{number}{names[position]:04d}",
            voxels[:, :, position].T + (1024 if hounsfield else 0),
            lps,
            position,
            {
                "SOPClassUID": CTImageStorage if hounsfield else MRImageStorage,
                "Modality": "CT" if hounsfield else "MR",
                "StudyInstanceUID": study,
                "SeriesInstanceUID": series,
                "SeriesDescription": description,
                "SeriesNumber": number,
                **({"RescaleIntercept": -1024, "RescaleSlope": 1} if hounsfield else {}),
            },
        )
        for position in range(voxels.shape[2])
    ]


def _write_slice(path: Path, pixels: np.ndarray, lps: np.ndarray, position: int, tags: dict) -> Path:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = tags["SOPClassUID"]
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    steps = lps[:3, :2] / np.linalg.norm(lps[:3, :2], axis=0)
    rows, columns = (float(np.linalg.norm(lps[:3, axis])) for axis in (1, 0))
    for name, value in {
        **tags,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "PatientName": "Nobody^At All",
        "PatientID": "a secret",
        "PatientBirthDate": "",
        "PatientSex": "",
        "AccessionNumber": "",
        "StudyID": "1",
        "StudyDate": "20260101",
        "StudyTime": "120000",
        "ReferringPhysicianName": "",
        "Manufacturer": "nobody",
        "FrameOfReferenceUID": generate_uid(entropy_srcs=[str(tags["StudyInstanceUID"])]),
        "InstanceNumber": position + 1,
        "ImagePositionPatient": [f"{each:.8g}" for each in (lps @ [0, 0, position, 1])[:3]],
        "ImageOrientationPatient": [f"{each:.8g}" for each in (*steps[:, 0], *steps[:, 1])],
        "PixelSpacing": [rows, columns],
        "SliceThickness": float(np.linalg.norm(lps[:3, 2])),
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
    }.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.astype("<i2").tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path
