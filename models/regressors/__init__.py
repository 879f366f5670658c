"""Regressors: from an encoder's features to one role's targets."""
