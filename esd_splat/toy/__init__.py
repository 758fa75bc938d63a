"""Score distillation where every score is known exactly: a Gaussian fitted to a Gaussian."""
