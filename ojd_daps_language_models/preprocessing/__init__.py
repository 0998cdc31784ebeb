"""Preprocessing: pure functions from text to text, groups and splits."""
