"""Presets of the benchmark of transformers (Ma et al., DART 2022; jlianglab/BenchmarkTransformers), each value with its reason.

The README has two command lines, one for Swin, SimMIM and Ark weights and one for a ViT of ImageNet-21k: two rows of one table here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, tuple[Any, str]]

_RELEASE: Settings = {
    "channels": (3, "every image is opened as RGB"),
    "px": (224, "the size of the released weights"),
    "freeze": ("nothing", "the whole network is trained"),
    "loss": ("auto", "a softmax for RSNA's three classes, else one cross-entropy a finding"),
    "uncertain": ("lsr_ones", "`--uncertain_label LSR-Ones`"),
    "soft_targets": ("every_epoch", "drawn anew whenever a label is read"),
    "augment": ("benchmark_exact", "crops down to 8 % of the image, flips, turns of up to 7 degrees by nearest neighbour"),
    "crop_pct": (0.875, "224 of 256"),
    "aspect": ("squashed", "`Resize((256, 256))` whatever the shape"),
    "test_views": ("ten_crop", "always: `--test_augment` is read by nobody"),
    "normalization": ("imagenet", "its default; `chestx-ray` is its other"),
    "drop_path": (0.1, "timm's Swin, and SimMIM's config"),
    "epochs": (200, "its default"),
    "batch_size": (64, "its default"),
    "optimizer": ("sgd", "`--opt sgd`"),
    "nesterov": (True, "what timm 0.5.4 makes of `sgd`"),
    "lr": (0.01, "the README's command for Swin, SimMIM and Ark"),
    "weight_decay": (0.0, "its default"),
    "schedule": ("cosine_of_val_loss", "`lr_scheduler.step(val_loss)`: the rate stays where it starts"),
    "warmup_epochs": (0, "`--warmup-epochs 0`"),
    "warmup_lr": (1e-6, "its default"),
    "min_lr": (1e-5, "its default"),
    "grad_clip": (0.0, "`--clip_grad` is read by nobody"),
    "precision": ("fp32", "its scaler is built and not used"),
    "patience": (10, "ends after 11 epochs without a better loss; `--early_stop` is read by nobody"),
    "stop_on": ("val/loss", "as released"),
    "keep_best": (1, "the one of the lowest validation loss: `pick: {metric: val/loss}`"),
}
_VIT_21K: Settings = {
    "lr": (0.1, "the README's command for a ViT of ImageNet-21k"),
    "warmup_epochs": (20, "as that command; the rate is about lr x loss / 20 from the second epoch on"),
    "drop_path": (0.0, "timm's pretrained ViTs have none"),
}
_PAPER: Settings = {
    "soft_targets": ("fixed", "a label does not change under training"),
    "augment": ("benchmark", "the same crops, flips and turns in one warp"),
    "schedule": ("cosine_by_epoch", "a cosine that advances, as the options say"),
}
_RECOMMENDED: Settings = {
    "channels": (3, "as ImageNet's patch embedding expects"),
    "px": (224, "the size of the published weights"),
    "freeze": ("nothing", "the whole network is trained"),
    "loss": ("auto", "by the task of the card"),
    "uncertain": ("card", "a policy is declared a card, where its source is named"),
    "soft_targets": ("fixed", "a label does not change under training"),
    "augment": ("benchmark_plus", "crops from half of the image on: 8 % loses the lesion; no flip, which mirrors left and right"),
    "crop_pct": (1.0, "all of the short side is seen"),
    "aspect": ("kept", "hearts keep their shape"),
    "test_views": ("centre", "one view; ten crops are an option"),
    "normalization": ("imagenet", "of the weights that most arms start from"),
    "drop_path": (0.1, "as Swin and DeiT are fine-tuned"),
    "epochs": (50, "and fewer with patience"),
    "batch_size": (64, "the published one"),
    "optimizer": ("adamw", "SGD at a constant rate was an accident of the schedule"),
    "nesterov": (False, "no momentum of that kind in AdamW"),
    "lr": (7.5e-5, "3e-4 x batch / 256; tune 2.5e-5, 7.5e-5 and 2.5e-4 in every arm"),
    "layer_decay": (0.75, "lower layers were pretrained and move less"),
    "weight_decay": (0.05, "for decoupled decay"),
    "schedule": ("cosine", "to 0 by step"),
    "warmup": (0.05, "Adam's first steps are large"),
    "grad_clip": (1.0, "attention is unstable early"),
    "precision": ("fp32", "bf16 where the hardware has it"),
    "patience": (0, "the cosine ends; the best on validation is picked"),
    "keep_best": (1, "the best by `pick: {metric: val/auroc_macro}`"),
}
_CNN: Settings = {
    "drop_path": (0.0, "not a ResNet's"),
    "lr": (3e-4, "tune it in every arm"),
    "layer_decay": (1.0, "one rate, as CNNs are fine-tuned"),
    "grad_clip": (0.0, "not needed at this rate"),
}
BENCHMARK_PRESETS: Mapping[str, Settings] = {
    "benchmark_paper": {**_RELEASE, **_PAPER},
    "benchmark_release": _RELEASE,
    "benchmark_release_vit21k": {**_RELEASE, **_VIT_21K},
    "benchmark_recommended": _RECOMMENDED,
    "benchmark_recommended_cnn": {**_RECOMMENDED, **_CNN},
}
