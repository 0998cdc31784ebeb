"""Publishes what a run trained: the folder, its card, and the way to the hub."""
