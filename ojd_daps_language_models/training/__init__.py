"""Training: fitting, scoring and packing models; no task of its own."""
