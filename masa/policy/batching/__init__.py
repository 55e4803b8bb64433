"""Rows in micro-batches: which share one, how they are laid out, and prompts computed once."""

from masa.earlier_names import names_of

__getattr__ = names_of(__name__, "masa.policy.batching.micro_batches")
