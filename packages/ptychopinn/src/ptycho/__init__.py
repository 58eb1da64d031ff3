"""Legacy import surface: `ptycho.params` and `ptycho.config.config`. Importing it loads no framework.

The calls that train and apply networks are not part of this version.
"""
