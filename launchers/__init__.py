"""Where a chain of recipes is run, and the nemo-cot command."""
