"""Networks: measured amplitude in, complex object patches out."""
