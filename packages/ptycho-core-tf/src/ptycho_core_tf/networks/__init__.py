"""Networks: measured amplitude in, complex object patches out.

Frames and patches have the axes of the PyTorch core, (B, C, N, N). What lies between, the features, has its
channels last, (B, H, W, channels): that is what TensorFlow's convolutions take on every device.
"""
