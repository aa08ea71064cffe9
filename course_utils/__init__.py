"""Plumbing for the course notebooks; every library call that a lesson teaches stands in the lesson."""
