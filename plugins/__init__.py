"""The losses shipped with the harness, one file each, through the public API only.

They import torch inside the functions that compute, so that listing them and planning a run takes a second.
"""
