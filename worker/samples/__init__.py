"""Packaged base models that come as GGUF: converted once, in a child process, into a directory that transformers
loads."""
