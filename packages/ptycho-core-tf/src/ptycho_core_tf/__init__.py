"""TensorFlow core: the physics, losses and networks of the PyTorch core, under the same names.

Importing this package does not import TensorFlow; the modules that need it do.
"""

from ptycho_config.moved import keep_old_paths
from ptycho_core_tf.moved import MOVED

keep_old_paths(MOVED)
