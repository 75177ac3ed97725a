"""What `render()` of an environment gives: nothing, a picture, or a window."""

from __future__ import annotations

from typing import Any

import gymnasium

from edgemarl.envs.arrays import Array
from edgemarl.envs.config import unknown_name
from edgemarl.envs.episode import Episode
from edgemarl.envs.scenario import Scenario

RENDER_MODES = ("human", "rgb_array")
RENDER_FPS = 4


class View:
    """Draws an episode in a render mode.

    Args:
        scenario: what is drawn.
        mode: "human" (a window), "rgb_array" (pictures), or None.

    Raises:
        ValueError: another mode.
    """

    def __init__(self, scenario: Scenario, mode: str | None) -> None:
        if mode not in (None, *RENDER_MODES):
            raise ValueError(unknown_name("render mode", str(mode), RENDER_MODES))
        self.scenario, self.mode = scenario, mode
        self.canvas: Any = None

    def show(self, episode: Episode) -> Array | None:
        """An RGB array (H, W, 3) uint8 of the present slot with "rgb_array"; else None.

        Raises:
            RuntimeError: a window is wanted where none can be opened.
        """
        if self.mode is None:
            gymnasium.logger.warn("render() shows nothing without render_mode='rgb_array' or 'human'")
            return None
        from edgemarl.envs.render import Canvas  # matplotlib is only imported when something is drawn

        if self.canvas is None:
            self.canvas = Canvas(self.scenario, window=self.mode == "human")
        picture: Array = self.canvas.draw(episode, episode.last)
        return picture if self.mode == "rgb_array" else None

    def close(self) -> None:
        if self.canvas is not None:
            self.canvas.close()
            self.canvas = None
