"""Decentralized control of DNN inference in edge networks: `edgemarl.envs`, `.agents`, `.marl` and `.launch`.

In a checkout the four packages are the folders beside this one. Links in this folder lead to them, so that editors and
type checkers find them too; a checkout without links (a zip archive, Windows) is served by this package's search path.
"""

from pathlib import Path

__version__ = "0.2.0"

_HERE = Path(__file__).resolve().parent
if not (_HERE / "envs").is_dir():
    __path__.append(str(_HERE.parent))
