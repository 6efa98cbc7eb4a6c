"""The MLflow model of a registered network: paths of NIfTI files in, paths of label maps out.

A row of the data frame is a scan: its file in the column `image`, or a file in each channel's column. Files
in some of these columns are put together by their names.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from ossnet.data.imaging.scan_files import stem
from ossnet.errors import UserError
from ossnet.inference import Predictor
from ossnet.inference.batch.cache import PredictionResult
from ossnet.inference.batch.inputs import channel_columns, find_scans, name_apart, scan_of
from ossnet.inference.batch.runner import PredictionJob, predict_scans, predict_sequential
from ossnet.inference.batch.scan_input import ScanInput


class NiftiModel(PythonModel):
    """A trained network that segments NIfTI files."""

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

        Rows of one name are called by their folders too.
        """
        job = PredictionJob((self._checkpoint,), Path((params or {})["output"]).absolute())
        rows = model_input.astype(object).where(model_input.notna(), None).to_dict("records")
        scans = name_apart([self._scan(index, row) for index, row in enumerate(rows)])
        predict = partial(predict_sequential, self._predictor, job)
        return pd.DataFrame([_row(result) for result in predict_scans(job, scans, predict)])

    def _scan(self, index: int, row: dict[str, str | None]) -> ScanInput:
        channels = [path for name in channel_columns(self._predictor.task) if (path := row.get(name))]
        if len(channels) == len(self._predictor.task.modalities) > 1:
            return scan_of([Path(path) for path in channels], self._predictor.task)
        files = [Path(path) for path in row.values() if path is not None]
        case = stem(files[0]) if files else f"row {index}"
        try:
            found = find_scans(files, self._predictor.task)
        except UserError as error:
            return ScanInput(case, error=str(error))
        if len(found) == 1:
            return found[0]
        expected = f"the files of one scan ({', '.join(self._predictor.task.modalities)})"
        return ScanInput(
            case, error=str(UserError(f"row {index}", expected=expected, found=f"{len(found)} scans"))
        )


def _row(result: PredictionResult) -> dict[str, Any]:
    volumes = {f"{name}_ml": volume for name, volume in result.volumes_ml.items()}
    path = None if result.output is None else str(result.output)
    return {"case": result.case, "segmentation": path, **volumes, "error": result.error}


set_model(NiftiModel())
