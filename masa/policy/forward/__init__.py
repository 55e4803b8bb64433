"""The policy's forward: log-probs of given tokens, the output head, kernels."""
