"""What the site has besides the pages of this folder: figures and texts of the checkout, a page of API per module."""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
TEXTS = ("paper_repro.md", "CONTRIBUTING.md", "CHANGELOG.md", "experiments/README.md")
ABOVE = re.compile(r"\]\(\.\./(?=figures/|paper_repro|CONTRIBUTING|CHANGELOG|experiments/)")
"""Links of this folder's pages to files of the checkout, which the site has beside them."""
BELOW = re.compile(r"\]\(docs/")
"""Links of the checkout's texts to this folder's pages."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the figures, the texts and the pages of the API."""
    copied = [*(ROOT / "figures").glob("*.png"), *(ROOT / "experiments").glob("[!_]*.py"), *map(ROOT.joinpath, TEXTS)]
    for path in copied:
        files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    names = modules()
    for name in names:
        files.append(File.generated(config, f"api/{name}.md", content=f"# {name}\n\n::: {name}\n"))
    listed = "\n".join(f"- [{name}]({name}.md)" for name in names)
    files.append(File.generated(config, "api/index.md", content=f"# The API\n\n{listed}\n"))
    return files


def modules() -> list[str]:
    """Every module of the package but those that are commands alone, by dotted name."""
    paths = sorted((ROOT / "manifold_lab").rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    return sorted(name for name in names if not name.endswith("__main__"))


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Point links to where the site has the files."""
    return BELOW.sub("](", ABOVE.sub("](", markdown))
