"""Results for people: comparisons and studies enter, tables, plots and one HTML page leave.

Read `report.py` first.
"""
