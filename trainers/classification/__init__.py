"""Multi-label classification, with the backbone frozen or not."""
