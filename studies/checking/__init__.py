"""What is checked before anything is fitted or rendered: functions that return faults, as errors, and read little."""
