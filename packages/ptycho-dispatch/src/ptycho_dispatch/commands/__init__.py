"""The commands of `ptycho`, a file each: its flags, and what it does with them."""
