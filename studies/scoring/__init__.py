"""What is compared of clips and captions."""
