"""Brain encoders: from a subject's responses to the features that regressors read."""
