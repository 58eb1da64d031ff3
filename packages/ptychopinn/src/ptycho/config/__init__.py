"""Legacy path of the configuration classes: `ptycho.config.config`."""
