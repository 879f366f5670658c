"""Metrics with their controls and intervals, the one-sentence verdict, contact sheets and the gallery page."""
