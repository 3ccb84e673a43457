"""The laws: what must hold for every row of every operation, whoever wrote it.

An operation is tested by having rows.  Each law is one test function, run over all rows it applies to; a test's id
names the operation, the number of its row, and the law.
"""
