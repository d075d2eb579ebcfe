"""Images started for real, without Docker: runners, checks, measures."""
