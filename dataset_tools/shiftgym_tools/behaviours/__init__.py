"""Policies that make the data: trained, graded, finished, packaged."""
