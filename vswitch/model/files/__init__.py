"""The files users write: YAML with positions, and the models that read them."""
