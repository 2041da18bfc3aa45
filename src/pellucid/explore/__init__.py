"""Measuring: this machine, and the engine on it."""
