"""An episode as a moving picture: one controller, or two side by side on the same trace."""

from edgemarl.launch.replay.recording import Moment, Recording, record
from edgemarl.launch.replay.writers import replay

__all__ = ["Moment", "Recording", "record", "replay"]
