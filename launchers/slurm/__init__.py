"""Submit a chain of recipes to Slurm, see how it is, and stop it."""
