"""The launcher by its C interface."""
