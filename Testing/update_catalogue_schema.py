"""Write Resources/FoundationModels.schema.json from the types of the catalogue. A test compares the two.

python Testing/update_catalogue_schema.py
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from MedSeqFTLib.models.catalogue import PATH, Catalogue  # noqa: E402

SCHEMA = PATH.with_suffix(".schema.json")


def schema() -> str:
    """The JSON schema of the catalogue."""
    return json.dumps(Catalogue.model_json_schema(), indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema(), encoding="utf-8", newline="\n")
