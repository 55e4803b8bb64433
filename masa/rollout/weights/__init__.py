"""The policy's weights on their way into engines, and the proof that they have arrived."""
