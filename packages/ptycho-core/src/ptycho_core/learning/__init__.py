"""What training and imaging by a network are made of, whichever framework computes: NumPy alone.

The cores turn what comes from here into their own tensors, and add the network, its gradients and the loop.
"""
