"""Where a chain is run, and the nemo-cot command."""
