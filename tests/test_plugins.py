"""Finding, loading and listing plugins; what a stranger's plugin can do and what it cannot break."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from faceblur_core.backends import readable_suffixes
from faceblur_core.compare.config import CompareConfig, plan
from faceblur_core.errors import FaceblurError, MissingDependency, UnknownName, UsageMistake
from faceblur_core.hookspecs import KINDS, Component, Weights
from faceblur_core.methods import find_method
from faceblur_core.plugins import Plugins, installed_plugins
from faceblur_core.testing import DetectorContract
from faceblur_core.types import Anonymized, Detections, Sample


def status(name):
    return next(info for info in installed_plugins().infos if info.name == name)


def bright():
    return np.full((32, 32, 3), 200, np.uint8)


def test_a_strangers_detector_and_obfuscator_work_with_ours(install):
    install("good")
    result = find_method("corner+grey", {"detector.size": "6"}, installed_plugins()).make()(bright())
    assert (result.image[:6, :6] == 128).all() and (result.image[6:] == 200).all()
    ours = find_method("corner+solid", {}, installed_plugins()).make()(bright())
    assert (ours.image[:4, :4] == 0).all() and (ours.image[:, 4:] == 200).all()


def test_a_strangers_anonymizer_is_a_method(install):
    install("good")
    result = find_method("wipe", {"level": 7}, installed_plugins()).make()(bright())
    assert (result.image == 7).all() and result.mask.all()


def test_a_strangers_backend_metric_and_command_are_found(install, cli, tmp_path):
    install("good")
    np.save(tmp_path / "three.npy", np.float32(3))
    predict = installed_plugins().make("backend", "npy").load(tmp_path / "three.npy")
    assert predict(np.ones((1, 2, 2, 1), np.float32)).sum() == 12
    metric = installed_plugins().make("metric", "hidden")
    image = bright()
    assert metric(Sample("x", image), Anonymized(image, np.full((32, 32), 0.25, np.float32)))[0] == 0.25
    assert cli("hello").out == "hello from a stranger\n"
    assert "the test's hello" in cli("--help").out
    assert cli("train", "lessons").out == "hello from a stranger\n"
    assert "the test's lessons" in cli("train", "--help").out


def test_every_hook_is_used_by_the_good_plugin(install):
    install("good")
    assert {kind for kind, _ in status("good").components} == set(KINDS)


def test_our_own_plugins_come_by_the_same_door():
    assert status("builtin").distribution == "faceblur-core"
    assert [component.name for kind, component in status("builtin").components if kind == "command"] == [
        "run",
        "cam",
        "methods",
        "plugins",
        "dataset",
        "train",
        "quantize",
        "export-mcu",
        "testset",
        "compare",
        "assess",
        "verify",
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "RuntimeError: this plugin is broken"),
        ("misspelt", "unknown hook 'faceblur_detectorz'"),
        ("faulty", "TypeError: faceblur_detectors returned 'not a component', which is no Component"),
        ("silent", "it offers nothing: does a hook lack @hookimpl, or its return?"),
    ],
)
def test_a_broken_plugin_is_a_row_and_stops_nobody(install, cli, name, message):
    install(name, "good")
    assert status(name).status == "error" and message in status(name).error and "\n" not in status(name).error
    assert {status(other).status for other in ("good", "opencv", "yolo")} == {"ok"}
    listed = cli("plugins")
    assert listed.code == 0 and message in listed.out and "goodplug" in listed.out
    assert cli("methods").code == 0


def test_a_disabled_plugin_is_not_even_imported(install, cli, monkeypatch):
    monkeypatch.setenv("FACEBLUR_DISABLE_PLUGINS", "broken, goodplug,nobody")
    install("broken", "good")
    assert status("broken").status == "disabled" and status("good").status == "disabled"
    assert "brokenplug" not in sys.modules
    assert "corner" not in installed_plugins().names("detector")
    assert "names 'nobody', which is not installed" in cli("plugins").err


def test_a_name_that_two_plugins_offer_is_an_error_naming_both(install, cli):
    install("good", "twin")
    with pytest.raises(UsageMistake, match=r"good \(goodplug\) and twin \(twinplug\).*FACEBLUR_DISABLE_PLUGINS=twin"):
        installed_plugins().make("detector", "corner")
    assert installed_plugins().make("obfuscator", "grey")  # the rest of both still works
    assert "detector 'corner' is also in plugin 'good'" in cli("plugins").out


def test_no_plugin_takes_the_name_of_a_method_file(install, cli):
    """What hides more generously than a detector alone must not become one unseen."""
    install("impostor")
    for command in (("methods", "careful"), ("run", "-m", "careful", "nothing.jpg", "-o", "out")):
        result = cli(*command)
        assert result.code == 2 and result.err.count("\n") == 1, result.err
        assert "'careful' is a method file of faceblur's and a detector of plugin impostor (impostorplug)" in result.err
        assert "FACEBLUR_DISABLE_PLUGINS=impostor" in result.err
    assert "detector 'careful' is also a method file of faceblur's" in cli("plugins").out
    with pytest.raises(ValueError, match="no YAML file's"):
        Component(name="mine.yaml", summary="", factory="a:b")


def test_the_advice_names_a_distribution_where_two_plugins_have_one_name(install):
    install("twin")
    plugins = installed_plugins()
    entry = plugins.get("detector", "corner")
    assert plugins.handle(entry) == "twin"
    plugins._infos.append(dataclasses.replace(plugins._infos[-1], name="twin", distribution="other"))
    assert plugins.handle(entry) == "twinplug"


def test_a_whole_method_by_the_name_of_a_detector_takes_nothing_over(install, cli):
    install("good", "usurper")
    both = r"good \(goodplug\) and usurper \(usurperplug\)|usurper \(usurperplug\) and good \(goodplug\)"
    for text in ("corner", "corner+grey", "haar|corner"):
        with pytest.raises(UsageMistake, match=both):
            find_method(text, {}, installed_plugins()).make()
    listed = cli("plugins").out
    assert "anonymizer 'corner' is also in plugin 'good'" in listed and "detector 'corner' is also in plugin 'usurper'" in listed


@pytest.fixture
def written(tmp_path, monkeypatch, install):
    """Install a distribution ``aaplug`` of one module, whose entry points have these names."""

    def add(code, *names):
        folder = tmp_path / "aaplug-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: aaplug\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text("[faceblur]\n" + "".join(f"{name} = aaplug\n" for name in names))
        head = "from faceblur_core import Component, Weights, hookimpl\nfrom faceblur_core.types import option\n"
        (tmp_path / "aaplug.py").write_text(f"{head}from dataclasses import dataclass\n{code}")
        monkeypatch.syspath_prepend(str(tmp_path))
        install()

    return add


def test_ours_comes_first_and_is_not_what_to_disable(written):
    row = "Component(name='blur', summary='another', factory='aaplug:Blur')"
    written(f"@hookimpl\ndef faceblur_obfuscators():\n    yield {row}\n", "builtin", "aa")
    rows = [(info.name, info.distribution, info.status) for info in installed_plugins().infos]
    assert rows[0] == ("builtin", "faceblur-core", "ok") and ("builtin", "aaplug", "error") in rows
    with pytest.raises(UsageMistake, match="FACEBLUR_DISABLE_PLUGINS=aa$"):
        installed_plugins().make("obfuscator", "blur")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("summary=None", "summary and licence must be strings"),
        (
            "summary='x', weights=Weights(file='a', sha256=('0' * 64,), licence='MIT', size=1)",
            "weights must be a tuple of Weights",
        ),
    ],
)
def test_a_record_that_is_not_as_it_should_be_is_its_plugins_row(written, cli, fields, message):
    written(f"@hookimpl\ndef faceblur_detectors():\n    yield Component(name='odd', factory='aaplug:Odd', {fields})\n", "aa")
    assert message in status("aa").error and cli("methods").code == 0


def test_weights_in_a_package_that_is_not_there_are_not_there(written, cli):
    weights = "Weights(file='a.onnx', sha256=('0' * 64,), licence='MIT', size=1, package='no_such.package')"
    row = f"Component(name='odd', summary='odd', factory='aaplug:Odd', weights=({weights},))"
    written(f"@hookimpl\ndef faceblur_detectors():\n    yield {row}\n", "aa")
    assert status("aa").status == "ok" and cli("methods").code == 0


@pytest.mark.parametrize(
    ("code", "settings", "message"),
    [
        ("class Odd: pass", (), "detector 'odd' of plugin aa is no dataclass"),
        (
            "import numpy as np\n@dataclass\nclass Odd:\n    size: np.ndarray = option(None, 'size')",
            ("detector.size=3",),
            "type hint",
        ),
    ],
)
def test_what_is_wrong_with_options_is_told_in_one_line(written, cli, tmp_path, code, settings, message):
    row = "Component(name='odd', summary='odd', factory='aaplug:Odd')"
    written(f"{code}\n@hookimpl\ndef faceblur_detectors():\n    yield {row}\n", "aa")
    (tmp_path / "a.png").write_bytes(b"")
    result = cli("run", "-m", "odd", *(f"--set={one}" for one in settings), tmp_path / "a.png", "-o", tmp_path / "out")
    assert result.code != 0 and message in result.err and result.err.count("\n") == 1


def test_a_backend_that_does_not_say_what_it_reads_stops_no_other(written):
    row = "Component(name='aback', summary='odd', factory='aaplug:Odd')"
    written(f"@dataclass\nclass Odd: pass\n@hookimpl\ndef faceblur_backends():\n    yield {row}\n", "aa")
    assert readable_suffixes()["aback"] == () and ".onnx" in readable_suffixes()["onnx"]


def test_a_metric_that_does_not_say_what_it_measures_is_told_before_anything_is_measured(written, cli, tmp_path):
    row = "Component(name='odd', summary='odd', factory='aaplug:Odd')"
    body = "    unit, per, higher_is_better, range = '', 'image', True, (0, 1)\n"
    written(f"@dataclass\nclass Odd:\n{body}@hookimpl\ndef faceblur_metrics():\n    yield {row}\n", "aa")
    result = cli("compare", "--methods", "haar", "--testset", "samples", "-o", tmp_path / "out")
    assert result.code != 0 and "metric 'odd' of plugin aa lacks citation" in result.err and result.err.count("\n") == 1


def test_a_whole_method_stands_alone(install):
    install("good")
    for text in ("wipe+solid", "haar|wipe", "crowd|haar", "careful+blur"):
        with pytest.raises(UsageMistake, match=r"'(wipe|crowd|careful)' is a whole method: it stands alone, not within"):
            find_method(text, {}, installed_plugins())


def test_a_method_file_is_not_within_another(tmp_path):
    (tmp_path / "mine.yaml").write_text("method: careful\n")
    with pytest.raises(UsageMistake, match="'careful' is a whole method: it stands alone, not within another method file"):
        find_method(str(tmp_path / "mine.yaml"), {}, installed_plugins())


def test_a_mistake_in_a_method_file_is_told_where_it_is_described(cli, tmp_path):
    (tmp_path / "odd.yaml").write_text("method: haar\noptions: {detector: {scale_factr: 1.2}}\n")
    result = cli("methods", tmp_path / "odd.yaml")
    assert result.code == 2 and "detector.scale_factr" in result.err and result.err.count("\n") == 1


def test_two_plugins_of_one_name_are_told_apart(install):
    install("good", "twin", "namesake")
    rows = {info.distribution: info for info in installed_plugins().infos}
    assert {rows["goodplug"].status, rows["namesakeplug"].status} == {"ok", "error"}
    failed = next(info for info in rows.values() if info.status == "error")
    assert "has the name of one in" in failed.error


def test_what_is_missing_is_said_in_one_line(install, cli, tmp_path):
    install("missing")
    with pytest.raises(
        MissingDependency, match="a_package_that_does_not_exist, which cannot be imported; install missingplug with all"
    ):
        installed_plugins().make("detector", "needy")
    with pytest.raises(FaceblurError, match="plugin missing .missingplug. has no missingplug:Vanished"):
        installed_plugins().make("detector", "vanished")
    result = cli("methods", "needy")
    assert result.code == 1 and result.err.count("\n") == 1


def test_a_factory_that_breaks_is_said_in_one_line(install, cli, tmp_path):
    install("sloppy")
    (tmp_path / "a.png").write_bytes(b"x")
    for name, message in (
        ("explosive", "cannot be imported: ZeroDivisionError"),
        ("moody", "cannot start: ValueError: bad mood"),
    ):
        result = cli("run", "-m", name, tmp_path / "a.png", "-o", tmp_path / "out")
        assert result.code == 1 and message in result.err and result.err.count("\n") == 1, result.err


def test_unknown_names_suggest_near_ones():
    with pytest.raises(UnknownName, match="no detector named 'yunnet'. Did you mean yunet?"):
        installed_plugins().make("detector", "yunnet")
    with pytest.raises(UnknownName, match=r"no metric named 'xyz'. Known: ap50, .*coverage, .*touched\."):
        installed_plugins().get("metric", "xyz")


def test_options_are_checked_against_their_types():
    with pytest.raises(UnknownName, match="no option of obfuscator 'blur' named 'cels'. Did you mean cells?"):
        installed_plugins().make("obfuscator", "blur", {"cels": 3})
    with pytest.raises(UsageMistake, match="cells=0: Input should be greater than or equal to 1"):
        installed_plugins().make("obfuscator", "blur", {"cells": 0})
    with pytest.raises(UsageMistake, match="cells=many: Input should be a valid integer"):
        installed_plugins().make("obfuscator", "blur", {"cells": "many"})
    assert installed_plugins().make("obfuscator", "blur", {"cells": "5"}).cells == 5


def test_options_of_uncommon_kinds_can_be_set(install, cli, tmp_path, astronaut):
    install("sloppy")
    Image.fromarray(astronaut[:64, :64]).save(tmp_path / "in.png")
    run = ("run", "-m", "particular", tmp_path / "in.png", "-o", tmp_path / "out", "--set", "detector.level=2")
    run = (*run, "--set", "detector.table={a: 1}")
    result = cli(*run)
    assert result.code == 2 and result.err == "faceblur: detector 'particular' needs 'side'\n"
    result = cli(*run, "--set", "detector.side=4")
    assert result.code == 0, result.err
    (tmp_path / "mine.yaml").write_text("method: particular\noptions: {detector: {side: 4, level: 2, table: {a: 1}}}\n")
    item = {"method": "particular", "set": {"detector": {"side": 4, "level": 2, "table": {"a": 1}}}}
    compared = plan(CompareConfig([item], ["samples"], metrics=["coverage"]), installed_plugins()).entries[0].method
    for method in (find_method(str(tmp_path / "mine.yaml"), {}, installed_plugins()), compared):
        assert method.options == {"detector.side": 4, "detector.level": 2, "detector.table": {"a": 1}}
    assert cli(*run[:2], tmp_path / "mine.yaml", *run[3:5], tmp_path / "out2").code == 0
    result = cli(*run, "--set", "detector.side=4", "--set", "detector.level=7")
    assert result.code == 2 and "level=7: Input should be 1, 2 or 3" in result.err
    result = cli(*run[:-1], "detector.table={a: [")
    assert result.code == 2 and "is no list such as [a, b] and no mapping such as {a: 1}" in result.err
    assert "int, required" in cli("methods", "particular").out


def test_records_are_checked():
    with pytest.raises(ValueError, match="lower-case"):
        Component(name="Not OK", summary="", factory="a:b")
    with pytest.raises(ValueError, match="is not 'package.module:Class'"):
        Component(name="ok", summary="", factory="a.b.c")
    with pytest.raises(ValueError, match="64-digit"):
        Weights(file="x", sha256=("abc",), licence="MIT", size=1)


def test_plugins_and_methods_as_json(install, cli):
    install("good", "broken")
    rows = {row["name"]: row for row in json.loads(cli("plugins", "--json").out)}
    assert (
        rows["good"]["version"] == "1.0"
        and {"kind": "detector", "name": "corner", "summary": "the test's corner"} in rows["good"]["components"]
    )
    assert rows["broken"]["status"] == "error"
    listed = json.loads(cli("methods", "--json").out)
    assert {"corner", "haar"} <= {row["name"] for row in listed["detectors"]}
    options = json.loads(cli("methods", "corner", "--json").out)["options"]
    assert {"name": "detector.size", "type": "int", "default": 4, "help": "side of the corner, pixels"} in options


def test_the_contract_finds_what_is_wrong(install, cli):
    install("sloppy")
    result = cli("plugins", "check", "sloppy", "--json")
    failed = {(row["component"], row["check"]): row["message"] for row in json.loads(result.out) if row["outcome"] == "failed"}
    assert result.code == 1
    assert "found 1 faces in a picture without any" in failed["everywhere", "no face in flat pictures"]
    assert "two runs on one picture differ" in failed["everywhere", "same twice"]
    assert "option undocumented has no help" in failed["everywhere", "options are described"]
    assert "changed pixels where the mask is 0" in failed["leaky", "leaves the rest alone"]
    assert "last row" in failed["leaky", "hides up to the borders"]
    assert "returned an image (95, 128, 3) uint8, not (96, 128, 3) uint8" in failed["shrinker", "result and untouched input"]
    assert "returned tuple, not Detections" in failed["tupled", "same twice"]
    assert "Panic: no way on" in failed["panicking", "same twice"] and "no way out" in failed["panicking", "can be closed"]
    assert "about to panic" in result.err
    assert "returned NoneType as an image" in failed["forgetful", "leaves the rest alone"]
    assert "returned NoneType as info" in failed["odd", "result and untouched input"]
    assert "has no __call__(image)" in failed["uncalled", "same twice"]


def test_the_contract_passes_what_is_right(install, cli):
    install("good")
    result = cli("plugins", "check", "goodplug")
    assert result.code == 0 and "0 failed" in result.out


def test_boxes_in_shares_of_the_sides_are_no_boxes():
    class Shares(DetectorContract):
        photo = bright()
        component = staticmethod(lambda image: Detections(np.array([[0.2, 0.1, 0.8, 0.9]]), np.ones(1)))

    with pytest.raises(AssertionError, match="no side of a box has more than 0.8 pixels: boxes are in pixels"):
        Shares().test_finds_the_face()


def test_a_mask_without_a_face_is_no_face():
    class Blind(DetectorContract):
        photo = bright()
        component = staticmethod(lambda image: dataclasses.replace(Detections.none(), mask=np.zeros(image.shape[:2], np.float32)))

    with pytest.raises(AssertionError, match="found no face in the photo"):
        Blind().test_finds_the_face()


def test_checking_what_is_not_there(install, cli):
    install("broken")
    assert cli("plugins", "check", "nobody").code == 2
    assert "cannot be checked: error: RuntimeError" in cli("plugins", "check", "broken").err


def test_detections_are_validated_and_read_only():
    found = Detections([[1, 2, 3, 4]], [0.5])
    with pytest.raises(ValueError, match="read-only"):
        found.boxes[0, 0] = 9
    for boxes, scores in (([[1, 2, 0, 4]], [1]), ([[1, 2, 3]], [1]), ([[1, 2, 3, np.nan]], [1]), ([[1, 2, 3, 4]], [1, 2])):
        with pytest.raises(ValueError, match="Detections"):
            Detections(boxes, scores)


def test_a_mask_is_copied_and_read_only():
    """Detectors may write each result into one buffer."""
    buffer = np.ones((4, 5), np.float32)
    found = Detections([], [], mask=buffer)
    buffer[:] = 0
    assert found.mask.all() and found.select([]).mask is found.mask
    with pytest.raises(ValueError, match="read-only"):
        found.mask[0, 0] = 0
    assert not np.shares_memory(Detections([], [], mask=np.broadcast_to(np.float32(1), (4, 5))).mask, buffer)
    for wrong in ([[1.0]], np.ones((4, 5)), np.ones((4, 5, 1), np.float32), np.full((4, 5), np.nan, np.float32)):
        with pytest.raises(ValueError, match=r"Detections\.mask"):
            Detections([], [], mask=wrong)


def test_boxes_without_area_are_left_out():
    found = Detections([[5, 2, 5, 8], [1, 2, 3, 4], [1, 4, 3, 4]], [1, 2, 3]).with_area()
    assert found.boxes.tolist() == [[1, 2, 3, 4]] and found.scores.tolist() == [2]


HEAVY = ("torch", "tensorflow", "mediapipe", "cv2", "ultralytics", "keras", "onnxruntime")
BLOCK = f"""
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {HEAVY}:
            raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Blocker())
from faceblur_core.cli import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], "Commands:"),
        (["methods"], "yunet"),
        (["plugins"], "opencv"),
        (["run", "--help"], "Options:"),
        (["methods", "haar|yunet+median"], "detector.yunet."),
        (["methods", "mediapipe"], "detector.range"),
    ],
)
def test_frameworks_are_not_imported_before_they_are_needed(arguments, shown):
    done = subprocess.run([sys.executable, "-c", BLOCK, *arguments], capture_output=True, text=True)
    assert done.returncode == 0 and shown in done.stdout, done.stderr


def test_no_plugin_imports_a_framework_to_be_loaded():
    done = subprocess.run([sys.executable, "-c", BLOCK, "plugins", "--json"], capture_output=True, text=True)
    loaded = {plugin["name"]: plugin["error"] or plugin["status"] for plugin in json.loads(done.stdout)}
    assert loaded == dict.fromkeys((info.name for info in installed_plugins().infos), "ok") and "opencv" in loaded


def test_help_imports_neither_numpy_nor_pydantic():
    code = "import sys; from faceblur_core.cli import main\ntry: main()\nexcept SystemExit: print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True)
    assert "Commands" in done.stdout
    assert not {"numpy", "pydantic", "PIL", "rich", "yaml"} & set(done.stdout.split())


@pytest.mark.parametrize("arguments", [(), ("dataset",)])
def test_a_command_without_arguments_shows_its_help(cli, arguments):
    result = cli(*arguments)
    assert result.code == 2 and result.out == "" and result.err == cli(*arguments, "--help").out


def test_plugins_can_be_made_more_than_once():
    assert Plugins(["opencv"]).names("detector") != Plugins().names("detector")
