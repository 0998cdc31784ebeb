"""Getters: the only code that opens data."""
