"""The engine that decodes with `transformers` in this process."""
