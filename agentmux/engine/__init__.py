"""The seam to the engine (``base``) and its implementations."""
