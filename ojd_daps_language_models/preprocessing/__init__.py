"""Preprocessing: what becomes of texts before a model reads them."""
