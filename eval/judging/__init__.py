"""Language models as judges: pairs and prompts enter, grades and probabilities of abstention leave.

Read `judge.py` first; who answers the prompts is in `readers/`.
"""
