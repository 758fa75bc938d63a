"""Score distillation: losses, the networks that they ask, and the step that moves a scene."""
