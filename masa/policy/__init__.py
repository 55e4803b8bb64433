"""The policy optimiser: advantages, losses, log-probs and batching as pure functions, and the sharded update."""
