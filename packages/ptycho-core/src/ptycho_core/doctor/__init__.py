"""What is wrong with a scan, and with which flags it comes right.

`diagnose` tries how the scan could be read otherwise, each way by a short reconstruction of some frames.

- `setting` is one way to read a scan, as a change of the way it was read; it knows its flags.
- `evidence` is what the frames tell without any reconstruction.
- `trials` reconstructs some frames in a setting, within a budget of time, and says what stays unexplained.
- `left_over` is what a reconstruction leaves unexplained beyond the noise of the photons.
- `blur` sharpens the frames, `slices` fits two slices in the place of one object.
- `reading`, `positions` and `model` are the questions; `findings` keeps the best answer so far.
- `diagnosis` asks them one after the other; `sheet` draws what came of it.
"""

from ptycho_core.doctor.diagnosis import diagnose
from ptycho_core.doctor.findings import TIME_OVER, Diagnosis, Finding
from ptycho_core.doctor.setting import Setting
from ptycho_core.doctor.sheet import write_sheet

__all__ = ["TIME_OVER", "Diagnosis", "Finding", "Setting", "diagnose", "write_sheet"]
