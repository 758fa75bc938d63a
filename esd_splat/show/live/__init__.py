"""The live view: a run shown in a browser while it goes, and the buttons that steer it."""

from esd_splat.show.live.view import View
from esd_splat.show.live.watch import open_view

__all__ = ["View", "open_view"]
