"""Any BIDS dataset of NIfTI images with events."""
