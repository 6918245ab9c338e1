"""Adapters for agent frameworks. Each module needs the framework, which is an optional dependency.

Every item is a document of its own. Storing and reading an item runs the models, which takes tens of milliseconds and
more; an item of a few bytes takes about a kilobyte in the store. README.md has the numbers.
"""
