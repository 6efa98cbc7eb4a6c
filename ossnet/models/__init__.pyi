from .configs import (
    DenseConfig as DenseConfig,
    NetworkConfig as NetworkConfig,
    OccupancyConfig as OccupancyConfig,
    ResidualEncoderUNetConfig as ResidualEncoderUNetConfig,
    UNetConfig as UNetConfig,
)
from .dense import DenseNetwork as DenseNetwork
from .kernels.compiled import compile_arithmetic as compile_arithmetic
from .occupancy import Latent as Latent, OccupancyNetwork as OccupancyNetwork, Prediction as Prediction
from .presets import PRESETS as PRESETS, network_config as network_config
from .reference_weights import import_reference_weights as import_reference_weights
from .registry import build_network as build_network, network_from_config as network_from_config
from .residual_encoder_unet import ResidualEncoderUNet as ResidualEncoderUNet
from .unet import UNet as UNet
