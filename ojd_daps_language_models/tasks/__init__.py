"""Tasks: tokenize, train and evaluate, one module per flow."""
