"""s6 services: what the compiler of s6-rc accepts, and what experience says about the rest."""
