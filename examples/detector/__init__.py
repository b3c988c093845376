"""A small detector of boxes in six cameras, and the world that it learns from."""
