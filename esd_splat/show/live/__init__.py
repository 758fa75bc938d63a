"""The live view: a run shown in a browser while it goes, and the buttons that steer it."""

from esd_splat.show.live.watch import View

__all__ = ["View"]
