"""What all packages share and nothing more: errors, clips in and out, atomic files and digests, seeds."""
