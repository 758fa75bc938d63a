"""One run: its loop, its folder, its checkpoints, and how the scene is measured."""
