"""The audit: every rule with its page, its code, its tests and its probes, judged together.

`installed` looks at code, `testfiles` and `junit` at tests, `probing` runs probes, `verdicts` judges;
`formats` and `inventory` write it down. `runs` judges one finished run.
"""
