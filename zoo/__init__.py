"""How the small world's shipped models were made; imported by the command line alone."""
