"""Score distillation: losses, the networks that they use, and the step that updates a scene."""
