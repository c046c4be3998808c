"""One file that says what a sweep found: `python -m analysis.report outputs/vae/sweep`.

`content` gathers what there is to say, `html`, `markdown` and `csv` say it.
"""
