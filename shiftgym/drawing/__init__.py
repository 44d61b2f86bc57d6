"""Pictures and films of robots, and where OpenGL comes from."""
