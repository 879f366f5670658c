"""BOLD Moments as published: responses, spaces, ROIs, stimuli."""
