"""Torch and what is fitted: brain encoders, regressors, target extractors, the video generator, the registry."""
