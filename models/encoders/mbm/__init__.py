"""Masked brain modelling: a transformer over patches of voxels, shared by subjects, then aligned with embeddings."""
