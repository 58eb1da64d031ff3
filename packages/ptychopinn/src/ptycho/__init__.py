"""Legacy import surface: `ptycho.params`, `ptycho.config.config`. No framework is loaded."""
