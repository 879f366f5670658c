"""Scores in words, charts and pages."""
