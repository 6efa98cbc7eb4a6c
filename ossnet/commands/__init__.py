"""The jobs: one file each, with the options that it takes and what it calls; no logic."""
