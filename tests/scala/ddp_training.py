"""Train a tiny model at a global batch of 8 on however many processes torchrun starts.

ddp_training.py FOLDER lamb|sgd SAMPLES sequence|tokens|causal
"""

import json
import os
import sys
from pathlib import Path

import torch
import uses
from tiny_models import collate, tiny_data, tiny_model
from transformers import AutoModelForTokenClassification

from scala import ScalaConfig, ScalaTrainer

TASKS = {
    "sequence": (lambda: tiny_model(dropout=0.0), collate),
    "tokens": (lambda: uses.bert(AutoModelForTokenClassification), uses.parity),
    "causal": (uses.gpt2, uses.instructions),
}


def main(folder: Path, leader: str, samples: int, task: str) -> None:
    torch.set_num_threads(1)
    config = ScalaConfig(
        output_dir=str(folder),
        use_cpu=True,
        ddp_backend="gloo",
        per_device_train_batch_size=2,
        global_batch_size=8,  # 4 x 2 in one process, 2 x 2 in each of two
        num_train_epochs=3,
        learning_rate=0.05,
        **({} if leader == "lamb" else {"leader": "optim", "optim": "sgd"}),
        noise_radius=0.2,
        noise_delay=2.0,
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        report_to="none",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )
    make, collator = TASKS[task]
    model = make().double()
    data = tiny_data(samples).remove_columns("idx")
    trainer = ScalaTrainer(model, config, train_dataset=data, data_collator=collator)
    trainer.train()
    if trainer.is_world_process_zero():
        trainer.save_model(str(folder))
        (folder / "log.json").write_text(json.dumps(trainer.state.log_history))
    torch.distributed.barrier()  # none leaves while another still writes
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
    # While Python 3.11 shuts down it kills threads that ask for its lock; in one of torch's C++ threads that is an abort, now
    # and then, after all the work is done. So leave without shutting down.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
