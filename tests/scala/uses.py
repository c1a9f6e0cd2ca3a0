"""Ordinary uses of transformers with the trainer: each is a case that works, or is refused with a message.

`test_uses.py` runs them; docs/uses.md is their table, written by `python tests/scala/uses.py`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset
from tiny_models import collate, tiny_data, tiny_model
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForTokenClassification,
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
)

from scala import Lamb, ScalaConfig, ScalaTrainer
from scala.trainer import ScalaMixin, last_checkpoint

SETTINGS = {
    "per_device_train_batch_size": 4, "global_batch_size": 8, "num_train_epochs": 2, "save_strategy": "no", "logging_steps": 1,
    "disable_tqdm": True, "use_cpu": True, "report_to": "none", "dataloader_pin_memory": False, "noise_radius": 0.1,
}  # fmt: skip
PAGE = Path(__file__).parents[2] / "docs" / "uses.md"


@dataclass(frozen=True)
class Use:
    """A use: what it is, what comes of it, and how it is tried: run(folder) -> the trainer that has trained, if it works."""

    part: str
    title: str
    run: Callable[[Path], Trainer | None]
    refused: str = ""
    warned: str = ""
    noisy: bool = True


USES: list[Use] = []
PARTS: list[str] = []


def use(title: str, refused: str = "", warned: str = "", noisy: bool = True):
    def register(run):
        USES.append(Use(PARTS[-1], title, run, refused, warned, noisy))
        return run

    return register


# --- what they are made of -------------------------------------------------------------------------------------------------


def config(folder, kind=ScalaConfig, **options):
    return kind(output_dir=str(folder), **(SETTINGS | options))


def trained(
    folder, trainer=ScalaTrainer, model=None, data=None, collator=collate, arguments=ScalaConfig, resume=None, **options
):
    given = {
        name: options.pop(name) for name in ("compute_loss_func", "optimizers", "optimizer_cls_and_kwargs") if name in options
    }
    model = {} if callable(model) and not isinstance(model, nn.Module) else {"model": tiny_model() if model is None else model}
    made = trainer(
        **model, args=config(folder, arguments, **options), train_dataset=tiny_data(16) if data is None else data,
        data_collator=collator, **given,
    )  # fmt: skip
    made.train(resume_from_checkpoint=resume)
    return made


def fresh():
    return tiny_model()


def padded(rows, value):
    longest = max(map(len, rows))
    return torch.tensor([list(row) + [value] * (longest - len(row)) for row in rows])


def texts(rows, label=None):
    """Token ids, their mask, and labels a token: label(ids), -100 on the padding."""
    ids = padded([row["input_ids"] for row in rows], 0)
    mask = padded([[1] * len(row["input_ids"]) for row in rows], 0)
    labels = ids if label is None else label(ids)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels.masked_fill(mask == 0, -100)}


def parity(rows):
    return texts(rows, lambda ids: ids % 2)


def masked(rows):
    batch = texts(rows)
    chosen = batch["input_ids"] % 3 == 0
    return batch | {
        "input_ids": batch["input_ids"].masked_fill(chosen, 4),
        "labels": batch["labels"].masked_fill(~chosen, -100),
    }


def pairs(rows):
    """Of an encoder and a decoder: the target is the input, turned round."""
    return texts(rows) | {"labels": padded([row["input_ids"][::-1] for row in rows], -100)}


def instructions(rows):
    """The first two tokens are the prompt: no loss and no noise there."""
    batch = texts(rows)
    batch["labels"][:, :2] = -100
    batch["noise_mask"] = batch["attention_mask"].clone()
    batch["noise_mask"][:, :2] = 0
    return batch


def choices(rows):
    ids = torch.tensor([[[row["input_ids"][0], 7 + i, 9] for i in range(3)] for row in rows])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids[:, 0, 0] % 3}


def blocks(rows):
    """A mask of who sees whom, [B, 1, queries, keys]."""
    batch = parity(rows)
    mask = batch["attention_mask"].bool()
    return batch | {"attention_mask": mask[:, None, None, :].expand(-1, 1, mask.shape[1], -1)}


def strange(rows):
    batch = {name: value for name, value in collate(rows).items() if name != "idx"}
    return batch | {"flag": torch.tensor(True), "alpha": torch.tensor(0.5), "seen": torch.ones(len(rows), dtype=torch.bool)}


def images(rows):
    return {
        "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
        "labels": torch.tensor([r["labels"] for r in rows]),
    }


def sounds(rows):
    return {
        "input_values": torch.stack([row["pixel_values"] for row in rows]),
        "labels": torch.tensor([r["labels"] for r in rows]),
    }


def drawn(*shape):
    generator = torch.Generator().manual_seed(0)
    return [{"pixel_values": torch.randn(*shape, generator=generator), "labels": i % 2} for i in range(16)]


BERT = {
    "vocab_size": 60, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 40,
}  # fmt: skip


def bert(kind):
    torch.manual_seed(0)
    return kind.from_config(BertConfig(**BERT, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))


def gpt2():
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=60, n_embd=16, n_layer=2, n_head=2, n_positions=40, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0
        )
    )


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**BERT, num_key_value_heads=2))


def t5():
    torch.manual_seed(0)
    sizes = {"vocab_size": 60, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.0}
    return T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0, pad_token_id=0))


def bart():
    torch.manual_seed(0)
    sizes = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in
             (("layers", 1), ("attention_heads", 2), ("ffn_dim", 24))}  # fmt: skip
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": 2}
    return BartForConditionalGeneration(BartConfig(vocab_size=60, d_model=16, max_position_embeddings=40, **sizes, **ids))


def vit():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    return ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=8))


def wav2vec2():
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    sizes |= {"conv_dim": (8, 8), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2}
    sizes |= {
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
        "classifier_proj_size": 8,
        "mask_time_prob": 0.0,
    }
    return Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**sizes))


class Recurrent(nn.Module):
    """An LSTM over word vectors: no model of transformers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.words, self.lstm, self.head = nn.Embedding(60, 8), nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, input_ids, attention_mask=None, labels=None, **_):
        logits = self.head(self.lstm(self.words(input_ids))[0].mean(dim=1))
        return {"loss": cross_entropy(logits, labels), "logits": logits}


class OfVectors(nn.Module):
    """It embeds the words itself and hands `inputs_embeds` to the encoder."""

    def __init__(self):
        super().__init__()
        self.words, self.bert = nn.Embedding(60, 16), tiny_model()

    def get_input_embeddings(self):
        return self.bert.get_input_embeddings()

    def forward(self, input_ids, attention_mask=None, labels=None):
        return self.bert(inputs_embeds=self.words(input_ids), attention_mask=attention_mask, labels=labels)


WEIGHTS = torch.tensor([1.0, 3.0])


class Weighted(ScalaTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        loss = cross_entropy(outputs.logits, labels, weight=WEIGHTS.to(outputs.logits))
        return (loss, outputs) if return_outputs else loss


class WeighedRight(Weighted):
    def loss_items(self, inputs):
        return WEIGHTS[inputs["labels"]].sum()


class Looking(ScalaTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch)
        assert outputs.logits.shape == (len(inputs["labels"]), 2)
        return (loss, outputs) if return_outputs else loss


class RoundTheGame(ScalaTrainer):
    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = model(**self._prepare_inputs(inputs)).loss
        self.accelerator.backward(loss)
        return loss.detach()


class Translating(ScalaMixin, Seq2SeqTrainer):
    pass


@dataclass
class TranslatingConfig(ScalaConfig, Seq2SeqTrainingArguments):
    pass


def mean_of(outputs, labels, num_items_in_batch=None):
    return cross_entropy(outputs.logits, labels)


def share_of(outputs, labels, num_items_in_batch=None):
    return cross_entropy(outputs.logits, labels, reduction="sum") / num_items_in_batch


class Endless(torch.utils.data.Dataset):
    """Has a length and no end: any position gives a sample."""

    def __init__(self):
        self.rows = list(tiny_data(16).remove_columns("idx"))

    def __len__(self):
        return 16

    def __getitem__(self, i):
        return self.rows[i % 16]


# --- the loss --------------------------------------------------------------------------------------------------------------
PARTS.append("The loss")
use("the model's own")(partial(trained))
use("compute_loss overridden, with class weights", warned="override loss_items")(partial(trained, trainer=Weighted))
use("the same, with its weights said by loss_items")(partial(trained, trainer=WeighedRight))
use("compute_loss overridden, by way of super().compute_loss(return_outputs=True)")(partial(trained, trainer=Looking))
use("compute_loss_func, a mean")(partial(trained, compute_loss_func=mean_of))
use("compute_loss_func, divided by num_items_in_batch")(partial(trained, compute_loss_func=share_of))
use("label smoothing")(partial(trained, label_smoothing_factor=0.1))
use("clean loss + adversarial loss")(partial(trained, adversarial_weight=1.0))
use("training_step overridden, without super()", refused="training_step goes round the game")(
    partial(trained, trainer=RoundTheGame)
)

PARTS.append("The trainer")
use("class MyTrainer(ScalaMixin, Seq2SeqTrainer)")(
    lambda folder: trained(folder, Translating, t5(), collator=pairs, arguments=TranslatingConfig)
)


@use("class MyTrainer(Seq2SeqTrainer, ScalaMixin)", refused="ScalaMixin must stand before the Trainer")
def _(folder):
    type("Wrong", (Seq2SeqTrainer, ScalaMixin), {})


@use("plain TrainingArguments", refused="args must be a ScalaConfig, got TrainingArguments")
def _(folder):
    ScalaTrainer(tiny_model(), TrainingArguments(str(folder), use_cpu=True))


@use("model_init")
def _(folder):
    trainer = ScalaTrainer(model_init=fresh, args=config(folder), train_dataset=tiny_data(16), data_collator=collate)
    first = trainer.model
    trainer.train()
    assert trainer.model is not first
    return trainer


@use("train() called twice")
def _(folder):
    trainer = trained(folder)
    trainer.train()
    return trainer


@use("a data set with set_transform")
def _(folder):
    rows = tiny_data(16).remove_columns("idx")
    data = Dataset.from_dict({"text": [" ".join(map(str, ids)) for ids in rows["input_ids"]], "label": rows["label"]})

    def tokens(batch):
        ids = [list(map(int, text.split())) for text in batch["text"]]
        return {"input_ids": ids, "attention_mask": [[1] * len(i) for i in ids], "label": batch["label"]}

    data.set_transform(tokens)
    return trained(folder, data=data, remove_unused_columns=False)


use("a data set with a length and no end")(lambda folder: trained(folder, data=Endless()))
use("a batch with a flag, a number and booleans beside its tensors")(
    lambda folder: trained(
        folder, model=Recurrent(), collator=strange, noise_module="words", noise_share=0.5, remove_unused_columns=False
    )
)
use("a batch larger than the data", warned="larger than the training set of 16")(
    partial(trained, global_batch_size=32, num_train_epochs=4)
)


@use("auto_find_batch_size keeps the large batch")
def _(folder):
    limit = 2

    def small(rows):
        batch = collate(rows)
        if len(rows) > limit:
            raise RuntimeError("CUDA out of memory.")
        return batch

    trainer = trained(folder, collator=small, auto_find_batch_size=True)
    assert trainer._train_batch_size * trainer.args.gradient_accumulation_steps == 8
    return trainer


# --- models ----------------------------------------------------------------------------------------------------------------
PARTS.append("Models")
use("token classification (NER)")(lambda f: trained(f, model=bert(AutoModelForTokenClassification), collator=parity))
use("masked language model")(lambda f: trained(f, model=bert(AutoModelForMaskedLM), collator=masked))
use("multiple choice, ids [8, 3, L]")(lambda f: trained(f, model=bert(AutoModelForMultipleChoice), collator=choices))
use("an attention mask [B, 1, L, L]")(lambda f: trained(f, model=bert(AutoModelForTokenClassification), collator=blocks))
use("GPT-2, instructions without noise and loss on the prompt")(lambda f: trained(f, model=gpt2(), collator=instructions,
    remove_unused_columns=False))  # fmt: skip
use("Llama, likewise")(lambda f: trained(f, model=llama(), collator=instructions, remove_unused_columns=False))
use("T5, noise on the encoder's and the decoder's words")(lambda f: trained(f, model=t5(), collator=pairs))
use("T5, noise_module='encoder.embed_tokens'")(lambda f: trained(f, model=t5(), collator=pairs,
    noise_module="encoder.embed_tokens"))  # fmt: skip
use("BART")(lambda f: trained(f, model=bart(), collator=pairs))
use("ViT, noise on the patches")(lambda f: trained(f, model=vit(), data=drawn(3, 16, 16), collator=images))
use("wav2vec2, noise_module='wav2vec2.feature_projection'")(
    lambda f: trained(
        f,
        model=wav2vec2(),
        data=drawn(200),
        collator=sounds,
        noise_module="wav2vec2.feature_projection",
        remove_unused_columns=False,
    )
)
use("an LSTM over nn.Embedding, noise_module='words'")(lambda f: trained(f, model=Recurrent(), noise_module="words"))
use("an LSTM, its word vectors not named", refused="name the module whose output gets the noise")(
    lambda f: trained(f, model=Recurrent())
)
use("an LSTM, a module that is not there", refused="has no module 'word'; did you mean 'words'")(
    lambda f: trained(f, model=Recurrent(), noise_module="word")
)
use("any model without noise", noisy=False)(lambda f: trained(f, model=Recurrent(), noise="none"))
use("inputs_embeds, the embedding layer not used", refused="did not run in a forward pass")(
    lambda f: trained(f, model=OfVectors())
)
use("inputs_embeds, noise_module='words'")(lambda f: trained(f, model=OfVectors(), noise_module="words"))
use("a noise_mask that does not fit", refused="no prefix of where the noise goes")(
    lambda f: trained(
        f,
        model=gpt2(),
        collator=lambda rows: instructions(rows) | {"noise_mask": torch.ones(4, 99)},
        remove_unused_columns=False,
    )
)
use("gradient checkpointing")(
    partial(trained, gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False})
)
use("gradient checkpointing, reentrant", refused="cannot play: .*use_reentrant")(
    partial(trained, gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": True})
)

# --- arguments -------------------------------------------------------------------------------------------------------------
PARTS.append("Arguments")
use("optim beside the default leader", refused="leader='lamb' does not read optim")(partial(trained, optim="sgd"))
use("optim with leader='optim'")(partial(trained, optim="sgd", leader="optim"))
use("optim_args", refused="leader='lamb' does not read optim_args")(partial(trained, optim_args="a=1"))
use("adam_epsilon", refused="leader='lamb' does not read adam_epsilon")(partial(trained, adam_epsilon=1e-4))
use("optimizer_cls_and_kwargs", refused="leader='lamb' does not read optimizer_cls_and_kwargs")(
    partial(trained, optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.1}))
)
use("optimizer_cls_and_kwargs with leader='optim'")(
    partial(trained, optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 0.1}), leader="optim")
)


@use("optimizers=(scala.Lamb(...), None)")
def _(folder):
    model = tiny_model()
    return trained(folder, model=model, optimizers=(Lamb(model.named_parameters(), lr=1e-3, eps=1e-4), None))


use("global_batch_size against gradient_accumulation_steps", refused="makes 2 accumulation steps of 4 samples")(
    partial(trained, gradient_accumulation_steps=4)
)
use("a delay beyond the last step", refused="it would never begin")(partial(trained, noise_delay=4.0))
use("neftune_noise_alpha beside the follower", refused="leave it out, or set noise='none'")(
    partial(trained, neftune_noise_alpha=5.0)
)

# --- checkpoints -----------------------------------------------------------------------------------------------------------
PARTS.append("Checkpoints")
SAVED = {"save_strategy": "steps", "save_steps": 2, "noise_delay": 1.0}


def resumed(folder, changed, saved=None):
    trained(folder, **SAVED, **(saved or {}))
    for name in ("checkpoint-2-old", "checkpoint-2 (copy)"):
        (folder / name).mkdir()
    (folder / "checkpoint-9.tar").write_text("no folder")
    (folder / "checkpoint-4" / "trainer_state.json").write_text("")
    return trained(folder, **(SAVED | changed), resume=str(last_checkpoint(folder)))


use("resume, beside checkpoint-9.tar, 'checkpoint-2 (copy)' and checkpoint-2-old")(partial(resumed, changed={}))
use("resume under another weight decay", refused="weight_decay was 0.0 and is now 0.1")(
    partial(resumed, changed={"weight_decay": 0.1})
)
use("resume under another learning rate", refused="learning_rate was 0.008 and is now 0.1")(
    partial(resumed, changed={"learning_rate": 0.1})
)
use("resume under other betas", refused=r"betas was .0.9, 0.999. and is now .0.5, 0.999.")(
    partial(resumed, changed={"adam_beta1": 0.5})
)
use("resume from save_only_model", refused="the checkpoint holds the model alone")(
    partial(resumed, changed={}, saved={"save_only_model": True})
)


@use("resume from damaged weights", refused="the weights in .* are damaged")
def _(folder):
    trained(folder, **SAVED)
    weights = folder / "checkpoint-2" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    trained(folder, **SAVED, resume=str(folder / "checkpoint-2"))


def page() -> str:
    """The table, as Markdown."""
    lines = [
        "# Uses, and what comes of them",
        "",
        "Each line is a test (`tests/scala/uses.py`) that trains a tiny random model, with micro-batches of 4 to a batch of 8.",
        "Where it works, the log says that the follower took part and that its noise had the radius asked for.",
    ]
    for name in dict.fromkeys(one.part for one in USES):
        lines += ["", f"## {name}", "", "| use | outcome | message |", "|---|---|---|"]
        for one in USES:
            if one.part == name:
                outcome = "refused" if one.refused else "works, with a warning" if one.warned else "works"
                message = (one.refused or one.warned).replace(".*", " ... ").replace(".0.9", "(0.9").replace(".0.5", "(0.5")
                lines.append(f"| {one.title.replace('|', '/')} | {outcome} | {message.replace('0.999.', '0.999)')} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(json.dumps({"uses": len(USES), "refused": sum(bool(one.refused) for one in USES)}), file=sys.stderr)
