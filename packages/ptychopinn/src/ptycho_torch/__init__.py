"""Legacy path of the PyTorch calls. They train and apply networks, which are not part of this version.

Nothing is here yet, so that an old import fails where it stands; importing this package loads no framework.
"""
