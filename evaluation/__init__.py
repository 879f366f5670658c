"""Metrics with their controls and intervals, the verdict, contact sheets and the gallery page."""
