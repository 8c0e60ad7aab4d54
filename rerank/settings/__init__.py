"""How one model ranks: a YAML file enters, `EncoderSettings` or `DecoderSettings` leave.

Read `common.py` first: it says what decides a score, besides the weights.
"""
