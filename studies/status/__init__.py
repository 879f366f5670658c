"""What is up to date, what ran, what is in production."""
