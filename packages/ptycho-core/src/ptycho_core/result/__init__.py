"""The result of a run: object and probe with their judgement and history, and what a run tells on its way."""
