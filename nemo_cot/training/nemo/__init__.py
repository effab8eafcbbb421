"""Bridges to NeMo: files in its formats, and configs for its trainers."""
