"""The audit: every rule with its page, its code, its tests and its checks, judged together.

`installed` looks at code, `testfiles` and `junit` at tests, `checking` runs checks, `verdicts` judges;
`formats` and `inventory` write it down. `runs` judges one finished run.
"""
