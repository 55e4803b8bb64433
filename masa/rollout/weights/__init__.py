"""The policy's weights on their way into engines, and the proof that they have arrived."""

from masa.earlier_names import names_of

__getattr__ = names_of(__name__, "masa.model.weights")
