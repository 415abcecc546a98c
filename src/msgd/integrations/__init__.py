"""Random weights in the training loops of Lightning, Hugging Face Trainer and Accelerate.

Each integration uses one draw for the whole logical batch, however micro-batches and processes split it; a short last
batch is drawn at its own size. Import the module of your framework, e.g. `msgd.integrations.lightning`; its package
has to be installed.
"""
