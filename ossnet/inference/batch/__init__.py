"""Many scans in one call: finding inputs, predicting, and a cache of what is done."""
