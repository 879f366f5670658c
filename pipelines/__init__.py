"""What a person triggers: the command line, and one file per ZenML pipeline."""
