"""Legacy path of the workflows: `ptycho_torch.workflows.components`."""
