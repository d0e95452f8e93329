"""Clips for training: real videos or a teacher's, encoded once with the pipeline's own encoders, read in shards."""

from disca.data.forms import form_for
from disca.data.reader import Shards

__all__ = ["Shards", "form_for"]
