"""Sampling: a package per engine, found by engine.kind."""
