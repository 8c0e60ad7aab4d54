"""Who encodes the shards of a build: this process, several, or a Ray cluster.

Enters: numbered shards of passages, lazily. Leaves: the record of each shard, in order, once its
files are written. Whoever encodes a shard encodes it whole, in the batches that its lengths ask
for, so an engine decides when a shard is done and no byte of it. Read `protocol.py` first.
"""
