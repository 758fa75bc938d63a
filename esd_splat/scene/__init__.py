"""The scene: Gaussians, cameras, rasterizers, densification and the optimizer."""
