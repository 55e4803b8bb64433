"""The objective: advantages, losses and the named algorithms made of them, as pure functions."""
