"""NeMo-Skills: its server, its generation, its files."""
