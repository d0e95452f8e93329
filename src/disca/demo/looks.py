"""How the page looks: the theme of gradio, with the colours of the style sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

TEMPLATES = Path(__file__).parent / "templates"


def looks() -> dict[str, Any]:
    """How the page looks, as arguments of its launch: nothing comes from elsewhere."""
    fonts = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif")
    theme = gr.themes.Base(
        radius_size=gr.themes.sizes.radius_sm,
        font=[gr.themes.Font(name) for name in fonts],
        font_mono=[gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")],
    ).set(**_colours())
    # Gradio puts the page's own class before every rule of `css`; colours belong to the root.
    head = f"<style>{_read('colours.css')}</style><script>{_read('page.js')}</script>"
    return {"theme": theme, "css": _read("page.css"), "head": head, "footer_links": []}


def _read(name: str) -> str:
    return (TEMPLATES / name).read_text()


def _colours() -> dict[str, str]:
    """The theme's colours, as those of the style sheet, which knows light and dark."""
    named = {
        "paper": ("body_background_fill", "block_background_fill", "background_fill_primary"),
        "raised": ("input_background_fill", "input_background_fill_focus", "background_fill_secondary"),
        "ink": ("body_text_color", "block_title_text_color", "block_label_text_color"),
        "soft": ("body_text_color_subdued", "block_info_text_color", "input_placeholder_color"),
        "line": ("border_color_primary", "input_border_color", "block_border_color"),
        "accent": ("button_primary_background_fill", "button_primary_border_color", "input_border_color_focus"),
        "paper-on-accent": ("button_primary_text_color",),
        "wash": ("button_secondary_background_fill", "button_secondary_border_color"),
    }
    found = {part: f"var(--{colour})" for colour, parts in named.items() for part in parts}
    found |= {"button_primary_background_fill_hover": "var(--accent)", "button_secondary_text_color": "var(--ink)"}
    dark = {f"{part}_dark": value for part, value in found.items()}
    return {**found, **dark, "block_border_width": "0px", "block_shadow": "none", "input_border_width": "1px"}
