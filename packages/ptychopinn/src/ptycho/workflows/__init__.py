"""Legacy path of the workflows: `ptycho.workflows.components` and `ptycho.workflows.backend_selector`."""
