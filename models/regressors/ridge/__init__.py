"""Ridge regression with exact leave-one-out selection of its penalties."""
