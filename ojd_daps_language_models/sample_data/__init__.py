"""Invented data, written for this project, that every flow can be tried on."""
