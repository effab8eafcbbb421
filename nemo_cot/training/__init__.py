"""The local backend: packed SFT on transformers, CPU or one GPU."""
