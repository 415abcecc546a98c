"""TRL's SFTTrainer: several documents are packed into a row, and each of them has a weight.

python examples/sft.py [EPOCHS]
"""

import sys
import tempfile

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from msgd import noise
from msgd.integrations.transformers import ReweightCallback


def counting(n: int) -> Dataset:
    """Make texts of different lengths that count up modulo ten by a random stride."""
    drawn = zip(torch.randint(10, (n,)), torch.randint(1, 4, (n,)), torch.randint(4, 13, (n,)), strict=True)
    return Dataset.from_list([{"text": " ".join(str(int(a + d * i) % 10) for i in range(m))} for a, d, m in drawn])


def digits() -> PreTrainedTokenizerFast:
    """Make a tokenizer; yours comes from_pretrained(…)."""
    made = Tokenizer(models.WordLevel({str(i): i for i in range(10)} | {"<end>": 10, "<pad>": 11}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", pad_token="<pad>")


def main(epochs: int) -> None:
    """Train for some epochs and print the loss per token on other documents."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=12, eos_token_id=10, pad_token_id=11, **sizes))
    with tempfile.TemporaryDirectory() as folder:
        here = {"save_strategy": "no", "report_to": [], "use_cpu": True, "bf16": False, "disable_tqdm": True}
        rows = {"packing": True, "max_length": 64, "dataloader_drop_last": True}
        arguments = SFTConfig(folder, num_train_epochs=epochs, learning_rate=1e-2, **rows, **here)
        trainer = SFTTrainer(
            model,
            arguments,  # 8 rows of about 7 documents in each step
            train_dataset=counting(1000),
            eval_dataset=counting(200),
            processing_class=digits(),
            callbacks=[ReweightCallback(noise.Emulate(b=16), seed=0)],
        )
        trainer.train()
        print(f"{trainer.state.global_step} steps: loss per token {trainer.evaluate()['eval_loss']:.4f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
