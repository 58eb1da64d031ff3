"""Legacy import surface of the PyTorch side: one module for each path that older programs import.

Importing any of them loads neither PyTorch nor Lightning; these are loaded when a network is trained or
opened.
"""
