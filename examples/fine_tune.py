"""Hugging Face Trainer: accumulated batches with the noise of small ones, by a callback.

python examples/fine_tune.py [EPOCHS]
"""

import sys
import tempfile

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from msgd import noise
from msgd.integrations.transformers import ReweightCallback


def counting(n: int, length: int = 12) -> list[dict[str, torch.Tensor]]:
    """Make sequences that count up modulo ten from a random digit by a random stride; some are padded."""
    start, stride = torch.randint(10, (n, 1)), torch.randint(1, 4, (n, 1))
    tokens = (start + stride * torch.arange(length)) % 10
    labels = tokens.masked_fill(torch.arange(length) >= torch.randint(4, length + 1, (n, 1)), -100)
    return [{"input_ids": x, "labels": y} for x, y in zip(tokens, labels, strict=True)]


def main(epochs: int) -> None:
    """Train for some epochs and print the loss per token on other sequences."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=10, max_position_embeddings=16, **sizes))  # or from_pretrained(…)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=32,
            gradient_accumulation_steps=4,  # 128 sequences per step, and 104 at the end of an epoch
            learning_rate=1e-2,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        data = {"train_dataset": counting(1000), "eval_dataset": counting(200)}
        trainer = Trainer(
            model,
            arguments,
            **data,
            callbacks=[ReweightCallback(noise.Emulate(b=16), seed=0)],
        )
        trainer.train()
        print(f"{trainer.state.global_step} steps: loss per token {trainer.evaluate()['eval_loss']:.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
