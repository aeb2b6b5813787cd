"""What an installed wheel holds: the package, and nothing beside it."""

import subprocess
import sys
import zipfile
from pathlib import Path

from openrlhf_rad import __version__

ROOT = Path(__file__).parents[1]


def test_a_wheel_holds_only_the_package(tmp_path):
    sources = ["pyproject.toml", "README.md", "LICENSE", "openrlhf_rad", "cli", "risk_profiles"]
    tree = tmp_path / "tree"
    tree.mkdir()
    # A copy, so that neither build/ nor *.egg-info appear in the source tree.
    subprocess.run(
        ["cp", "-r", *(str(ROOT / name) for name in sources if (ROOT / name).exists()), tree], check=True
    )
    (tree / "README.md").touch()
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, tree]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"openrlhf_rad", f"openrlhf_rad-{__version__}.dist-info"}
    held = {name for name in names if not name.startswith("openrlhf_rad-")}
    for folder, package in (("openrlhf_rad", ""), ("cli", "cli/"), ("risk_profiles", "risk_profiles/")):
        files = [
            path
            for path in (tree / folder).rglob("*")
            if path.suffix in {".py", ".yaml", ".json", ".typed", ".txt", ".html", ".css", ".toml"}
        ]
        missing = [
            path for path in files if f"openrlhf_rad/{package}{path.relative_to(tree / folder)}" not in held
        ]
        assert missing == []
        assert files
