"""The update: the optimiser, what holds it in pieces, and one step of both."""
