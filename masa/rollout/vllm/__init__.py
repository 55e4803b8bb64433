"""The engine that samples with vLLM in this process, and what runs inside of vLLM."""
