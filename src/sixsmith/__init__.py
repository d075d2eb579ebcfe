"""sixsmith builds, ships and keeps patched families of Alpine + s6-overlay images from one file."""

__version__ = "0.1.0"
