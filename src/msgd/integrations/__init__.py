"""The noise in other people's training loops: Lightning, Hugging Face Trainer, Accelerate (extras of these names).

In each, the gradient is that of one draw over the whole logical batch, however micro-batches and processes split it,
and a short last one is drawn at its own size. Import the one that is wanted: `msgd.integrations.lightning` and so on.
"""
