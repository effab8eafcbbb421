"""The embedded engine: sample from a local model on CPU or one GPU."""
