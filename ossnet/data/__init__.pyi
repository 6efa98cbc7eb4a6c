from .imaging.geometry import Geometry as Geometry
from .imaging.nifti import write_nifti as write_nifti
from .imaging.preprocessing import (
    Scan as Scan,
    preprocess as preprocess,
    preprocess_label as preprocess_label,
)
from .imaging.resampling import restore as restore
from .labels.task import Task as Task
from .layouts import Case as Case, Source as Source, read_source as read_source
from .phantom import write_phantom as write_phantom
from .prepare.build import PrepareReport as PrepareReport
from .prepare.config import PrepareConfig as PrepareConfig
from .store.store import Store as Store, StoredCase as StoredCase
from .verification import (
    Issue as Issue,
    Verification as Verification,
    verify as verify,
    verify_store as verify_store,
)
