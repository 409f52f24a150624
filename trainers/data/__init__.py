"""Data sets: cards, readers, splits, draws, images, augmentation and made data."""
