"""PyTorch core: the physics, losses and networks through it, and the solver on torch arrays.

Importing this package does not import torch; the modules that need it do.
"""

from ptycho_config.moved import keep_old_paths
from ptycho_core_torch.moved import MOVED

keep_old_paths(MOVED)
