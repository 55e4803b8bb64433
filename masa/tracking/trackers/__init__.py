"""Trackers: services and files beside the run directory that a run's metrics, samples and figures go to."""
