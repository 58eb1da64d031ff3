"""PyTorch core: the solver on torch arrays; networks follow in a later version.

Importing this package does not import torch; the modules that need it do.
"""
