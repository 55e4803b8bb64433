"""What a run will need, by arithmetic: memory, disk, tokens and time, from shapes alone. No weight is loaded."""
