"""Labelled images by name, all of one form: batches on the device, classes, mean and deviation, native resolution."""

from manifold_lab.data.augment import Augmentation
from manifold_lab.data.folder import Folder
from manifold_lab.data.in_memory import InMemory
from manifold_lab.data.interface import Batch, Data, DatasetInfo
from manifold_lab.data.sources import NAMES, DataOptions, load
from manifold_lab.data.synthetic import ManifoldTask

__all__ = [
    "NAMES",
    "Augmentation",
    "Batch",
    "Data",
    "DataOptions",
    "DatasetInfo",
    "Folder",
    "InMemory",
    "ManifoldTask",
    "load",
]
