"""The machine: devices, memory, disk space, locks, processes, compiled kernels, untrusted files."""
