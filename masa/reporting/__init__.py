"""Reports: run directories read, grouped by seed, drawn, tabulated and written as one HTML file."""
