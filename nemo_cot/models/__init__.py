"""Local models: Hugging Face directories and how they are made and loaded."""
