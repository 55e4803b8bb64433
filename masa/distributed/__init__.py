"""The processes of one run, and how they act together."""
