"""How a stage is run: one script per stage."""
