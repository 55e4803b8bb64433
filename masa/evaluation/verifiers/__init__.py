"""Verifiers that benchmarks alone need."""
