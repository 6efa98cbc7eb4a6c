from .config import InferenceConfig as InferenceConfig
from .predictor import Predictor as Predictor, Segmentation as Segmentation
from .volume import VolumePrediction as VolumePrediction, predict_volume as predict_volume
