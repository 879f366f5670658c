"""How the small world's shipped models were made: `python -m zoo train` and `python -m zoo score`."""
