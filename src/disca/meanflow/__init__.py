"""Where mean velocities meet diffusers: a second time for the host, and the schedulers that suit it."""
