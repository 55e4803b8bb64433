"""The engine that decodes with `transformers` in this process."""

from masa.earlier_names import names_of

__getattr__ = names_of(__name__, "masa.rollout.transformers.engine")
