"""Trains the small world's own models, which are shipped: autoencoder, text encoder, denoiser, CLIP and BLIP."""
