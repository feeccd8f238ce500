"""MedSeqFT: sequential fine-tuning of segmentation foundation models, inside and outside 3D Slicer.

Importing this package imports neither Slicer, Qt nor torch; see docs/architecture.md for the rooms and their order.
"""

__version__ = "0.1.0"
