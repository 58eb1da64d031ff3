"""Faults put in on purpose: what a case is, how it is run with limits, and what is right.

`case` says what a case is, `ground` makes the sound files that cases spoil, `running` runs one with limits of
time and memory, `judging` tells what is wrong, `programs` writes a failure as a program of its own. `classes`
has a module for each class of cases; `command` draws them, runs them side by side and shows the table.
"""
