"""A course in streamlet and spigot_topologies: numbered programs (`python -m examples.01_word_count`).

`examples.demo` is the main one: the blizzard of February 2013.
"""
