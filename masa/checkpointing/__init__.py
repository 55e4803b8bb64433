"""Checkpoints: what they hold, when and how they are written, and how a run goes on from one."""
