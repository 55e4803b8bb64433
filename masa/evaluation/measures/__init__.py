"""What an evaluation measures: accuracy, pass@k, meta-awareness, and their intervals."""
