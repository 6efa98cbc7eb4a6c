"""What MLflow runs to load a registered network: paths of NIfTI files in, paths of label maps out.

A row of the data frame is a scan: its file in the column `image`, or one file a modality in any columns.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from ossnet.data.imaging.nifti import stem
from ossnet.errors import UserError
from ossnet.inference import Predictor
from ossnet.inference.batch.cache import PredictionResult
from ossnet.inference.batch.inputs import ScanInput, find_scans
from ossnet.inference.batch.runner import PredictionJob, predict_scans, predict_sequential


class NiftiModel(PythonModel):
    """A trained network."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read the checkpoint."""
        self._checkpoint = Path(context.artifacts["checkpoint"])
        self._predictor = Predictor.from_checkpoint(self._checkpoint)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Segment every row's scan into the folder `params["output"]`.

        Returns:
            A row a scan: its `case`; the path of its `segmentation`, on the scan's own grid; every class's
            milliliters (`CLASS_ml`); and `error`, the reason where it could not be segmented.

        Raises:
            UserError: two rows would be written to the same file.
        """
        job = PredictionJob(self._checkpoint, Path((params or {})["output"]).absolute())
        rows = model_input.astype(object).where(model_input.notna(), None).to_dict("records")
        scans = [self._scan(place, row) for place, row in enumerate(rows)]
        names = [scan.case for scan in scans]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            msg = f"two rows would both be written as {twice}: predict them into folders of their own"
            raise UserError(msg)
        predict = partial(predict_sequential, self._predictor, job)
        return pd.DataFrame([_told(outcome) for outcome in predict_scans(job, scans, predict)])

    def _scan(self, place: int, row: dict[str, str | None]) -> ScanInput:
        files = [Path(path) for path in row.values() if path is not None]
        case = stem(files[0]) if files else f"row {place}"
        try:
            found = find_scans(files, self._predictor.task)
        except UserError as error:
            return ScanInput(case, error=str(error))
        if len(found) == 1:
            return found[0]
        modalities = ", ".join(self._predictor.task.modalities)
        problem = f"row {place}: expected the files of one scan ({modalities}), found {len(found)} scans"
        return ScanInput(case, error=problem)


def _told(outcome: PredictionResult) -> dict[str, Any]:
    volumes = {f"{name}_ml": volume for name, volume in outcome.volumes_ml.items()}
    path = None if outcome.output is None else str(outcome.output)
    return {"case": outcome.case, "segmentation": path, **volumes, "error": outcome.error}


set_model(NiftiModel())
