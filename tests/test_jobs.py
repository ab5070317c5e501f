"""Where outputs go: mirrored, inside the output folder, no two to one place, whatever the names."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceblur_core.errors import UsageMistake
from faceblur_core.run.jobs import plan_jobs

parts = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20).filter(
    lambda text: text not in (".", "..") and not text.startswith(".") and len(text.encode()) < 200
)
paths = st.builds(
    lambda folders, name, suffix: "/".join([*folders, name + suffix]),
    st.lists(parts, max_size=3),
    parts,
    st.sampled_from([".jpg", ".PNG", ".webp", ".txt", ".heic", ".tif", ".mp4"]),
)


def tree(root: Path, names: list[str]) -> set[str]:
    """Make the files; names that cannot stand beside the others are left out."""
    made = set()
    for name in names:
        try:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch(exist_ok=False)
        except OSError:
            continue
        made.add(name)
    return made


@given(st.lists(paths, min_size=1, max_size=8))
@settings(max_examples=60)
def test_a_folder_is_mirrored(names):
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "in", Path(folder) / "out"
        root.mkdir()
        photos = {name for name in tree(root, names) if not name.endswith(".txt")}
        if not photos:
            with pytest.raises(UsageMistake, match="no photos in"):
                plan_jobs([str(root)], out, None)
            return
        plan = plan_jobs([str(root)], out, None)
        assert {job.name for job in plan.jobs} == photos
        for job in plan.jobs:
            assert job.target == out / job.name and job.source == root / job.name


@given(st.lists(paths, min_size=1, max_size=8), st.sampled_from(["PNG", "JPEG", "WEBP"]))
@settings(max_examples=60)
def test_no_two_files_get_one_output(names, form):
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder) / "in", Path(folder) / "out"
        root.mkdir()
        tree(root, [*names, "always.jpg"])
        try:
            plan = plan_jobs([str(root)], out, form)
        except UsageMistake as error:
            if "would both be written to" not in error.message:
                raise
            return
        targets = [job.target for job in plan.jobs]
        assert len(set(targets)) == len(targets)
        assert all(target.is_relative_to(out) and target.suffix for target in targets)
