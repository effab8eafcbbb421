"""How a stage is run: one script a stage, each a Hydra entry point."""
