"""Helpers for handlers of MXNet models; they need mxnet."""
