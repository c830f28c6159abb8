"""
Real training frameworks write, in a second process; `tox -e frameworks` runs these tests.
"""
