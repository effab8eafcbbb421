"""Processes beside a recipe that never outlive it, and the model server among them."""
