"""``model_data.c`` and ``.h``: the .tflite file as an array, for programs with TensorFlow Lite for Microcontrollers in them."""

from __future__ import annotations

import re

from faceblur_core.mcu.graph import Graph

#: the resolver's functions, where their names are not the operator's in camel case
_FUNCTIONS = {"CONV_2D": "AddConv2D", "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D", "MAX_POOL_2D": "AddMaxPool2D"} | {
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "TRANSPOSE_CONV": "AddTransposeConv",
    "PADV2": "AddPadV2",
    "BATCH_MATMUL": "AddBatchMatMul",
    "L2_POOL_2D": "AddL2Pool2D",
}


def model_data(model: bytes, graph: Graph) -> dict[str, str]:
    """Return the files by name; the header lists the operators for a resolver."""
    kinds = graph.counted()
    calls = " \\\n".join(f"    {_call(kind)}" for kind in kinds)
    rows = "".join(f"    {', '.join(f'0x{byte:02x}' for byte in model[i : i + 16])},\n" for i in range(0, len(model), 16))
    header = f"""/* A network for TensorFlow Lite for Microcontrollers. Written by faceblur export-mcu. */
#ifndef MODEL_DATA_H
#define MODEL_DATA_H

#ifdef __cplusplus
extern "C" {{
#endif

#define MODEL_DATA_BYTES {len(model)}
extern const unsigned char model_data[MODEL_DATA_BYTES];

#ifdef __cplusplus
}}
#endif

/* For a tflite::MicroMutableOpResolver<MODEL_OPERATORS>. */
#define MODEL_OPERATORS {len(kinds)}
#define MODEL_ADD_OPERATORS(resolver) \\
{calls}

#endif
"""
    source = f"""#include "model_data.h"

const unsigned char model_data[MODEL_DATA_BYTES] __attribute__((aligned(16))) = {{
{rows}}};
"""
    return {"model_data.c": source, "model_data.h": header}


def _call(kind: str) -> str:
    if kind == "UNKNOWN" or kind.startswith("CUSTOM"):
        return f"/* add {re.sub(r'[^A-Za-z0-9_ -]', '?', kind)} yourself */"
    function = _FUNCTIONS.get(kind) or "Add" + "".join(part.capitalize() for part in kind.split("_"))
    return f"(resolver).{function}();"
