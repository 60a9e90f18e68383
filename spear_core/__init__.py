"""Exact gradient inversion you can step through."""
