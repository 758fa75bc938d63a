"""What is optimized: Gaussians, their cameras, and what draws and densifies them."""
