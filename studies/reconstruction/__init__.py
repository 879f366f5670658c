"""Render and score test stimuli, or new responses; explain and reproduce a video."""
