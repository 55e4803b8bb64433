"""Problems: what they are, where they come from, the order they are seen in, and the prompts built from them.

The prompts (`masa.problems.prompts`) are imported where they are used: they need jinja2 and the configuration.
"""

from masa.problems.errors import ProblemDataError
from masa.problems.loading import load_problems
from masa.problems.problem import Problem
from masa.problems.report import BadRow, LoadedProblems, LoadReport
from masa.problems.sampling import ProblemSampler
from masa.problems.seeds import derive_seed

__all__ = [
    "BadRow",
    "LoadReport",
    "LoadedProblems",
    "Problem",
    "ProblemDataError",
    "ProblemSampler",
    "derive_seed",
    "load_problems",
]
