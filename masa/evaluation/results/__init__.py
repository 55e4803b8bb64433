"""The results of an evaluation, for programs and for readers."""
