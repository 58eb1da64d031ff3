"""The `ptycho` command line: chooses, logs, reports and exits with a code; computes nothing itself."""

from ptycho_config.moved import keep_old_paths
from ptycho_dispatch.moved import MOVED

keep_old_paths(MOVED)
