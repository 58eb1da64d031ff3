"""Legacy import surface of the PyTorch calls; they follow with the networks. No framework is loaded."""
