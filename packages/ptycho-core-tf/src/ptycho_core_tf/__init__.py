"""TensorFlow core: the physics, losses and networks of the PyTorch core, under the same names.

Importing this package does not import TensorFlow; the modules that need it do.
"""
