"""The machine: devices, memory, compiled kernels, threads, atomic file writing, untrusted text."""
