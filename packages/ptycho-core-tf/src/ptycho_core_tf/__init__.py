"""TensorFlow core: registered; networks follow in a later version. Importing it loads no framework."""
