"""Rows in micro-batches: which share one, how they are laid out, and prompts computed once."""
