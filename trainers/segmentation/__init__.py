"""Segmentation of structures and findings: UPerNet on any timm feature pyramid."""
