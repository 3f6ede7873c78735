"""Fail unless the wheel in a folder holds every file of the package, the embedded cells among them.

Usage: python .ci/check_wheel.py DIST
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "leukonca"
EMBEDDED = "leukonca/cells/embedded_cells/"
EMBEDDED_LIMIT = 3_000_000  # bytes: what a user downloads only to try the demo must stay small


def check(dist: Path) -> str:
    """Return one line about the wheel in ``dist``, or exit with what is wrong with it."""
    wheels, archives = sorted(dist.glob("*.whl")), sorted(dist.glob("*.tar.gz"))
    if len(wheels) != 1 or len(archives) != 1:
        sys.exit(f"{dist}: expected one wheel and one source distribution, found {[*wheels, *archives]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        sizes = {entry.filename: entry.file_size for entry in wheel.infolist() if not entry.is_dir()}

    expected = {
        (Path("leukonca") / file.relative_to(PACKAGE)).as_posix()
        for file in PACKAGE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    if missing := sorted(expected - sizes.keys()):
        sys.exit(f"{wheels[0].name} lacks {len(missing)} file(s) of the package: {', '.join(missing[:10])}")

    cells = [size for name, size in sizes.items() if name.startswith(EMBEDDED) and name.endswith(".jpg")]
    total = sum(cells)
    found = f"the {len(cells)} embedded cells in {EMBEDDED} take {total / 1e6:.2f} MB"
    if not 0 < total <= EMBEDDED_LIMIT:
        sys.exit(f"{wheels[0].name}: {found}; expected some, and at most {EMBEDDED_LIMIT / 1e6:.0f} MB")
    return f"{wheels[0].name}: {len(sizes)} files; {found}"


if __name__ == "__main__":
    print(check(Path(sys.argv[1])))
