"""The answer: which loss, which latent size, and how sure are we.

`analysis.load` reads what sweeps left, from any source, into one table; `analysis.comparison` says
what it means; `analysis.figures` shows it and `python -m analysis.report` writes it down.
"""
