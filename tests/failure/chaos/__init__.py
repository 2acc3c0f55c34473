"""Things that die under a steady load of numbered requests, and an account of each single one.

The default test run has each scenario for a few seconds (tests/failure/test_chaos.py); `make chaos` has them for as
long as one likes and prints a table.
"""
