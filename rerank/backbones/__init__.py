"""Models that read packed prompts: a prompt enters, queries and keys of the scoring heads leave.

Read `protocol.py` first, then `decoder.py` or `encoder.py`; both put block attention into a
transformers model through `block_interface.py`.
"""
