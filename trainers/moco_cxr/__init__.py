"""Momentum contrast on chest radiographs (Sowrirajan et al., MIDL 2021)."""
