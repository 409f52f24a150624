"""Masked image modelling on chest radiographs (Xie et al., CVPR 2022; Ma et al., DART 2022)."""
