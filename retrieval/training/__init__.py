"""Fine-tune an encoder for one's own corpus: pairs in, a sentence-transformers folder out.

Read `run.py` first, which puts the others together: `given` and `made` say where pairs come from,
`split` which of them are held out, `negatives` what stands against them, `fit` trains, `measure`
says what it was worth.
"""
