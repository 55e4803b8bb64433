"""What an answer's text says before any algebra: typography, numerals, units, intervals, sequences, size."""
