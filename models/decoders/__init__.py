"""A brain encoder and its regressors together: fit, save, load, predict."""
