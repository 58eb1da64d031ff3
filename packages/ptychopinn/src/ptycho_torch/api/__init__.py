"""Legacy path of the interface that the client drives: `ptycho_torch.api.base_api`."""
