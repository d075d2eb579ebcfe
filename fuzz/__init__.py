"""Coverage-guided fuzzing of the parsers that eat foreign bytes: `python fuzz/run.py TARGET --seconds N`.

Each module in `targets` has `TestOneInput(data)`, which may raise nothing (an error of ours is an answer, and is caught
there), and `seeds()`, a small corpus made on the spot. `run` gives them to atheris where it can be imported, else to the
loop in `guided`.
"""
