"""`python -m ptycho_torch.inference`: `ptycho infer` on PyTorch, which knows the older flags."""

from __future__ import annotations

import sys

from ptycho_dispatch.__main__ import main

if __name__ == "__main__":
    sys.exit(main("infer", "--backend", "pytorch"))
