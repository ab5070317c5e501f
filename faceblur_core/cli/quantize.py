"""``faceblur quantize``."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from faceblur_core.errors import FaceblurError, UsageMistake

if TYPE_CHECKING:
    from faceblur_core.types import Floats, Image

PATH = click.Path(path_type=Path)
FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("-m", "--method", required=True, help="A method around one float network, such as unet with weights of your own.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="An option of the method. Repeatable.")
@click.option("-c", "--config", type=PATH, required=True, help="YAML file that lists pictures to see the ranges on, or its name.")
@click.option("--data", type=PATH, default=Path(), help="Folder that the list's paths begin in. Default: this one.")
@click.option("-o", "--output", type=FILE, required=True, help="The int8 .tflite file to write.")
@click.option("--float", "float_output", type=FILE, help="Write the float .tflite file too.")
def quantize(method: str, settings: tuple[str, ...], config: Path, data: Path, output: Path, float_output: Path | None) -> None:
    """Turn a method's network into int8, for small devices: int8 in, int8 out, made by ai-edge-quantizer.

    How far the int8 network's output is from the float one's on the listed pictures is printed, if there is one output.

    \b
    faceblur quantize -m unet --set weights=runs/train/student-v1/model.keras -c faces12k --data sets/faces12k -o v1-int8.tflite
    """
    from faceblur_core.mcu.graph import parse
    from faceblur_core.mcu.quantize import quantize as to_int8
    from faceblur_core.mcu.source import float_model, one_by_one
    from faceblur_core.media.files import save
    from faceblur_core.methods import find_method
    from faceblur_core.options import parse_settings
    from faceblur_core.pipeline import close, model_files, network_of
    from faceblur_core.plugins import installed_plugins

    outputs = [path for path in (output, float_output) if path]
    _check_outputs(outputs)
    made = find_method(method, parse_settings(settings), installed_plugins()).make()
    try:
        if taken := {path.resolve() for path in outputs} & {path.resolve() for path in model_files(made)}:
            raise UsageMistake(f"{taken.pop()} is the network itself; choose another name")
        network = network_of(made)
        if network is None:
            raise UsageMistake(f"method {method!r} has no network that could be quantized")
        inputs = one_by_one(network.network_inputs(_picture(data / name)) for name in _listed(config))
        model = float_model(network)
    finally:
        close(made)
    quantized = to_int8(model, inputs)
    if (count := len(parse(quantized).outputs)) == 1:
        said = f"{_likeness(model, quantized, inputs):.1f} dB to the float network on {len(inputs)} inputs"
    else:
        said = f"not compared with the float network, for it has {count} outputs"
    if float_output:
        save(float_output, model)
    save(output, quantized)
    click.echo(f"{output}: {len(quantized):,} bytes; {said}")


def _check_outputs(paths: Sequence[Path]) -> None:
    """:raises UsageMistake: if a file would be replaced that is no .tflite model, or two files have one name"""
    from faceblur_core.mcu.source import read_model
    from faceblur_core.media.files import check_folder_above

    if len({path.resolve() for path in paths}) < len(paths):
        raise UsageMistake("-o and --float name the same file; choose another name for one of them")
    for path in paths:
        check_folder_above(path.parent)
        if path.is_file() and read_model(path)[4:8] != b"TFL3":
            raise UsageMistake(f"{path} is there and is no .tflite model; choose another name")


def _listed(config: Path) -> list[str]:
    from faceblur_core.options import find_config, read_yaml

    path = find_config(str(config), "quantize")
    names = read_yaml(path, "config").get("pictures")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise UsageMistake(f"config {path}: pictures must be a list of file names")
    return names


def _picture(path: Path) -> Image:
    from faceblur_core.media.images import read_photo

    try:
        return read_photo(path.read_bytes()).frames[0].rgb()
    except OSError as error:
        raise UsageMistake(f"{path}: {error.strerror}; name the folder of the listed pictures with --data") from None
    except FaceblurError as error:
        raise FaceblurError(f"{path}: {error.message}") from None


def _likeness(model: bytes, quantized: bytes, inputs: Sequence[Floats]) -> float:
    """Return the PSNR of the quantized network's outputs to the float one's, decibels, over all inputs; outputs are in 0..1."""
    import numpy as np

    from faceblur_core.backends import load_network

    with tempfile.TemporaryDirectory() as folder:
        outputs = []
        for number, content in enumerate((model, quantized)):
            path = Path(folder) / f"{number}.tflite"
            path.write_bytes(content)
            predict = load_network(path)
            outputs.append(np.concatenate([predict(batch) for batch in inputs]))
    error = float(np.mean(np.square(outputs[0] - outputs[1])))
    return float("inf") if error == 0 else -10 * float(np.log10(error))
