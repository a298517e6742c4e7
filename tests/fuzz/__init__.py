"""Mutated inputs of everything the project reads: the project's own error, or finite values; nothing else.

``make fuzz`` (``python -m tests.fuzz``) runs thousands of mutations, ``tests/test_fuzz.py`` some of each target.
"""
