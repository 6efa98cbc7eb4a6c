from .peak import PROTOCOL as PROTOCOL, PeakMemory as PeakMemory
from .storage_tracker import StorageTracker as StorageTracker
from .tracker import track_peak as track_peak
