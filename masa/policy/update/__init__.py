"""The update: the optimiser, what holds it in pieces, and one step of both."""

from masa.earlier_names import names_of

__getattr__ = names_of(__name__, "masa.policy.update.updater")
