"""Tracking: the run directory, a step's metrics, progress on the terminal, loggers, figures."""

from masa.tracking.metrics import StepMetrics, mean_of_tenth, timed
from masa.tracking.run_directory import RunDirectory, RunExistsError
from masa.tracking.samples import Prediction, Sample, choose_samples

__all__ = [
    "Prediction",
    "RunDirectory",
    "RunExistsError",
    "Sample",
    "StepMetrics",
    "choose_samples",
    "mean_of_tenth",
    "timed",
]
