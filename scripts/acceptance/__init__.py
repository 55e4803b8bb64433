"""The parts of `scripts/gpu_acceptance.py`, and what runs and reports them."""
