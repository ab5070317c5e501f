"""The demo as a newcomer runs it, and the template plugin installed from its own folder."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HERE = Path(__file__).parent
TEMPLATE = HERE / "faceblur-plugin-template"


def test_the_demo_hides_the_faces_compares_and_leaves_the_cat(tmp_path):
    command = [sys.executable, HERE / "demo.py", tmp_path, "haar", "haar+solid", "no-such-method"]
    environment = {**os.environ, "FACEBLUR_TESTSETS": str(tmp_path / "sets"), "FACEBLUR_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = re.search(r"^haar: 6 photos: (\d) with faces ", done.stdout, re.MULTILINE)
    assert found and 3 <= int(found[1]) <= 4, done.stdout  # OpenCV's releases differ by one dark face
    assert "no-such-method: faceblur: no method named 'no-such-method'" in done.stdout
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 3 * 240
    pair = (tmp_path / "photos" / "frontal-1.png", tmp_path / "haar+solid" / "frontal-1.png")
    with Image.open(pair[0]) as before, Image.open(pair[1]) as after:
        assert (np.asarray(after) == 0).all(axis=2).mean() > 0.05 + (np.asarray(before) == 0).all(axis=2).mean()
    assert len(list(tmp_path.glob("runs/*-demo/report.html"))) == 1
    assert "samples-v1   haar " in done.stdout


def test_the_demo_says_what_it_needs():
    done = subprocess.run([sys.executable, str(HERE / "demo.py")], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("usage: demo.py") and "FOLDER" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """An environment in which the template is installed from its own folder, beside everything else."""
    target = tmp_path_factory.mktemp("site")
    install = [os.environ.get("UV", "uv"), "pip", "install", "--quiet", "--no-deps", "--target", target, TEMPLATE]
    subprocess.run(list(map(str, install)), check=True)
    return {**os.environ, "PYTHONPATH": str(target)}


def faceblur(environment, *arguments):
    command = [sys.executable, "-m", "faceblur_core", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_template_is_listed_run_and_checked(template, tmp_path):
    rows = {row["name"]: row for row in json.loads(faceblur(template, "plugins", "--json").stdout)}
    assert rows["template"]["distribution"] == "faceblur-plugin-template" and rows["template"]["status"] == "ok"
    assert "cat" in faceblur(template, "methods").stdout
    from skimage import data

    Image.fromarray(data.chelsea()).save(tmp_path / "cat.png")
    done = faceblur(template, "run", "-m", "cat+stripes", tmp_path / "cat.png", "-o", tmp_path / "out.png")
    assert "1 photo: 1 with faces" in done.stdout, done.stderr
    with Image.open(tmp_path / "out.png") as hidden:
        assert (np.asarray(hidden)[230, 290:310] != data.chelsea()[230, 290:310]).any()
    checked = faceblur(template, "plugins", "check", "template")
    assert checked.returncode == 0 and "0 failed" in checked.stdout


def test_the_templates_own_tests_pass(template):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", TEMPLATE, TEMPLATE / "tests"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=template, cwd=TEMPLATE)
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout
