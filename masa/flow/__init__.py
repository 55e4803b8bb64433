"""The flow of a step: from problems to rollouts, and from graded groups to the rows that are trained on."""
