"""Problems: what they are, where they come from, the order they are seen in, and the prompts built from them."""

from masa.problems.problem import Problem

__all__ = ["Problem"]
