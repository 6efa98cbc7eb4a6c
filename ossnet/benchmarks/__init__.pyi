from .config import (
    ClassesBenchmarkConfig as ClassesBenchmarkConfig,
    InferenceBenchmarkConfig as InferenceBenchmarkConfig,
    InputBenchmarkConfig as InputBenchmarkConfig,
    MemoryBenchmarkConfig as MemoryBenchmarkConfig,
    MethodsBenchmarkConfig as MethodsBenchmarkConfig,
    NetworksBenchmarkConfig as NetworksBenchmarkConfig,
    PaperBenchmarkConfig as PaperBenchmarkConfig,
    ResolutionBenchmarkConfig as ResolutionBenchmarkConfig,
    ScalingBenchmarkConfig as ScalingBenchmarkConfig,
)
from .inference.measure import measure_inference as measure_inference
from .inference.results import InferenceResult as InferenceResult, InferenceRow as InferenceRow
from .input.measure import measure_input as measure_input
from .input.results import InputResult as InputResult, InputRow as InputRow
from .memory.classes import measure_classes as measure_classes
from .memory.measure import measure_memory as measure_memory
from .memory.resolution import measure_resolution as measure_resolution
from .memory.results import MemoryResult as MemoryResult, MemoryRow as MemoryRow
from .methods.measure import measure_methods as measure_methods
from .methods.results import MethodRow as MethodRow, MethodsResult as MethodsResult
from .networks.measure import measure_models as measure_models
from .networks.results import ModelRow as ModelRow, ModelsResult as ModelsResult
from .paper.measure import measure_paper as measure_paper
