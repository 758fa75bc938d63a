"""How the weights of the small teacher are made, and what they draw."""
