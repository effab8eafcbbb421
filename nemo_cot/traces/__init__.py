"""Traces: how teachers write them, filters, and selection."""
