"""From a source to the feature store: responses, targets, pictures, downloads."""
