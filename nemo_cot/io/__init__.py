"""Files: atomic writes, JSON lines, hashes."""
