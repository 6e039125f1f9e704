"""Measurements, each beside its baseline in the same run. Only its modules for plain llama.cpp and for running load the
native libraries."""
