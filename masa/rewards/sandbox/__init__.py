"""Run Python that a model wrote: one process, no network, no children, no files but its own, no way to reach others."""
