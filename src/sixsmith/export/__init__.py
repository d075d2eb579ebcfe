"""The family in other tools' words, for people who stay with them."""

from sixsmith.export.dockerfiles import render_dockerfiles

__all__ = ["render_dockerfiles"]
