"""From a run's time series to one response a trial: GLM or windows."""
