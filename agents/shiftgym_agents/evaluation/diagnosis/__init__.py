"""Say whether plenty of data A helps with little data B, before a week is spent on it.

sample.py     a part of both datasets, in stretches that count as independent
overlap.py    do the two visit the same states and actions?
dynamics.py   where they do, does the same follow? In which coordinates not?
worth.py      what did either earn, and are the source's actions any good in target states?
filters.py    which source rows would methods keep, and do they agree?
trials.py     short trainings with and without the source, where there is an environment
verdict.py    a sentence from these numbers, and what it rests on
whole.py      all of it, in order
"""
