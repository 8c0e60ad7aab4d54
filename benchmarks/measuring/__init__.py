"""What the scripts of `benchmarks/` share, and the parts of `gpu.py`.

Attention: `attention_cases.py` (shapes, layouts, work), `attention_peers.py` and `flex_masks.py`,
`attention_times.py`. Rerankers and their peers: `encoder_systems.py`
(`int8_cross_encoder.py`), `decoder_systems.py`. Clocks:
`timing.py`, `profile.py`. On a GPU: `kernel_checks.py` and `model_checks.py`, run by `workers.py`;
`tiles.py`, `times.py`; `model_folder.py` brings models along, `report.py` tells it all.
"""
