"""The bundled agents."""
