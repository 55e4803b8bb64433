"""Studies: arms that differ in their configuration, each run with the same seeds, compared seed by seed."""
