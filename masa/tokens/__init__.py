"""Token ids and log-probs as arrays, and how they move from the process that has them to those that need them."""
