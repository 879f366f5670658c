"""What is checked before anything is fitted or rendered: functions that return faults, a line each, and read little."""
