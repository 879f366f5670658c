"""Fit routes, choose one on validation, score all: a training run on disk."""
