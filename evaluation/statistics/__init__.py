"""From every stimulus's values to intervals, comparisons and report entries."""
