"""Train a tiny encoder at a global batch of 8 on however many processes torchrun starts: ddp_training.py FOLDER lamb|sgd."""

import json
import os
import sys
from pathlib import Path

import torch
from tiny_models import collate, tiny_data, tiny_model

from scala import ScalaConfig, ScalaTrainer


def main(folder: Path, leader: str) -> None:
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
        dataloader_pin_memory=False,
    )
    model = tiny_model(dropout=0.0).double()
    trainer = ScalaTrainer(model, config, train_dataset=tiny_data(32), data_collator=collate)
    trainer.train()
    if trainer.is_world_process_zero():
        trainer.save_model(str(folder))
        (folder / "log.json").write_text(json.dumps(trainer.state.log_history))
    torch.distributed.barrier()  # none leaves while another still writes
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
    # While Python 3.11 shuts down it kills threads that ask for its lock; in one of torch's C++ threads that is an abort, now
    # and then, after all the work is done. So leave without shutting down.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
