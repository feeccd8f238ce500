"""Loss landscapes and parameter variation as files: a document (JSON), tables (CSV) and pictures (PNG).

Every function takes results by model name and gives the files by their names. Numbers are not rounded; what is not
finite or not defined is null in a document and empty in a table.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from MedSeqFTLib.evaluation.analysis_pictures import contour_picture, curve_picture, variation_picture
from MedSeqFTLib.evaluation.landscape import Landscape
from MedSeqFTLib.evaluation.tables import inert
from MedSeqFTLib.evaluation.variation import LayerVariation, Variation


def landscape_document(landscapes: Mapping[str, Landscape]) -> dict[str, Any]:
    """Everything that was measured, by model, with the settings of the measurement."""
    return {
        name: {**asdict(landscape), "sharpness": landscape.sharpness, "spread": landscape.spread}
        for name, landscape in landscapes.items()
    }


def variation_document(variations: Mapping[str, Variation]) -> dict[str, Any]:
    """The whole network and its blocks and layers, by model."""
    return {
        name: {
            "tolerance": variation.tolerance,
            "whole": asdict(variation.whole),
            "blocks": [asdict(block) for block in variation.blocks],
            "layers": [{**asdict(layer), "relative": layer.relative} for layer in variation.layers],
        }
        for name, variation in variations.items()
    }


def landscape_files(landscapes: Mapping[str, Landscape], about: Mapping[str, Any]) -> dict[str, bytes]:
    """`about`: what the document says besides. Raises InputError for more models than a picture shows."""
    points = [(name, *point) for name, landscape in landscapes.items() for point in landscape.points()]
    return {
        "landscape.json": _json({**about, "models": landscape_document(landscapes)}),
        "landscape.csv": _csv(("model", "part", "a", "b", "loss"), points),
        "curves.png": curve_picture(landscapes),
        "contours.png": contour_picture(landscapes),
    }


def variation_files(variations: Mapping[str, Variation], about: Mapping[str, Any]) -> dict[str, bytes]:
    """`about`: what the document says besides. Raises InputError for more models than a picture shows."""
    layers = [(name, *_layer_row(layer)) for name, variation in variations.items() for layer in variation.layers]
    blocks = [(name, *asdict(block).values()) for name, variation in variations.items() for block in variation.blocks]
    return {
        "variation.json": _json({**about, "models": variation_document(variations)}),
        "layers.csv": _csv(("model", *_LAYER_COLUMNS), layers),
        "blocks.csv": _csv(("model", *_BLOCK_COLUMNS), blocks),
        "variation.png": variation_picture(variations),
    }


_BLOCK_COLUMNS = ("block", "parameters", "relative", "rank_share", "effective_rank_share")
_LAYER_COLUMNS = (
    *("block", "layer", "parameters", "change", "reference", "relative"),
    *("full_rank", "rank", "effective_rank"),
)


def _layer_row(layer: LayerVariation) -> tuple[object, ...]:
    rank = layer.rank
    return (
        *(layer.block, layer.layer, layer.parameters, layer.change, layer.reference, layer.relative),
        *((rank.full, rank.numerical, rank.effective) if rank else (None, None, None)),
    )


def _json(document: Mapping[str, Any]) -> bytes:
    return (json.dumps(finite(document), indent=2, allow_nan=False) + "\n").encode()


def finite(value: Any) -> Any:
    """A document of dicts, lists and numbers with None for every number that JSON cannot write."""
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([inert(cell) if isinstance(cell, str) else cell for cell in finite(list(row))] for row in rows)
    return text.getvalue().encode("utf-8")
