"""What a run will need before it begins: memory, scratch space, time.

`plan_of` says it of a scan and its settings, `refused` whether that fits this host. `needs` counts bytes;
`speed` measures once on every host how long the parts of a step take, and keeps it in the user's cache;
`work` counts the parts.
"""

from ptycho_core.costs.needs import Needs, needs_of, refused
from ptycho_core.costs.plan import Plan, plan_of
from ptycho_core.costs.speed import Speed, measured_speed

__all__ = ["Needs", "Plan", "Speed", "measured_speed", "needs_of", "plan_of", "refused"]
