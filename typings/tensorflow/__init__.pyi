# Read by pyright instead of the stubs that come with it, which refuse what TensorFlow takes: an ellipsis as
# an index, a number as the first value of a variable, a side of a shape in arithmetic. Shapes and number
# types are checked by jaxtyping while tests run. Leaves when those stubs know the three.
from typing import Any

def __getattr__(name: str) -> Any: ...
