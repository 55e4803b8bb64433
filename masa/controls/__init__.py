"""MASA-efficient (method, section 4): behaviour cloning, audited gating, early cutoff, notion hinting."""
