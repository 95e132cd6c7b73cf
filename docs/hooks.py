"""What `mkdocs` has to know of these pages: they link to files of the repository, too."""

import re
from typing import Any

_OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./[^)]*\)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Leave the text of links out of ``docs/``: such a file is not part of the site."""
    if "/" in page.file.src_uri:  # from docs/api one level up is docs/
        return markdown
    return _OUTSIDE.sub(r"\1", markdown)
