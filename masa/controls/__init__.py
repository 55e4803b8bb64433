"""MASA-efficient (docs/controls.md): behaviour cloning, audited gating, early cutoff, notion hinting."""
