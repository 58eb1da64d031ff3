"""A result to walk about in: a window of napari where that is installed, else the page of `ptycho report`."""
