"""Workers of several hosts as processes: network namespaces, and trainers that take the CPU for a GPU."""
