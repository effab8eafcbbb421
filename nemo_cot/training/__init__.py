"""Training: a package per backend, found by train.backend (nemo_cot.training.backend says what makes one)."""
